"""YAML files that a stranger may have written, read within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import FrankenError

_MAX_DEPTH = 4


def read_yaml(path: Path, error: type[FrankenError], most_bytes: int) -> Any:
    """What a file holds: lists, mappings, texts and numbers.

    Raises `error`, in one line that names file and line, where it is larger than `most_bytes`, no
    YAML, nested more than four deep, or holds an alias or a tag that is not YAML's own. Raises
    OSError.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise error(f"{path}: larger than {most_bytes} bytes; what is asked for is a short file")
    try:
        _check_events(path, data, error)
        return yaml.safe_load(data)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(problem, "problem", None) or getattr(problem, "reason", "cannot be read")
        raise error(f"{path}{where}: no YAML: {reason}") from None
    except (ValueError, RecursionError) as problem:  # such as a date that there is not
        raise error(f"{path}: no YAML that can be used: {problem}") from None


def _check_events(path: Path, data: bytes, error: type[FrankenError]) -> None:
    """Refuse what a short file can blow up: aliases stand for any amount of text, nesting for time.

    Events come one by one, before anything is built of them.
    """
    depth = 0
    for event in yaml.parse(data, yaml.SafeLoader):
        where = f"{path}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise error(f"{where}: holds a YAML alias (*name); write the text out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise error(f"{where}: lists within lists, more than {_MAX_DEPTH} deep; write less")
