"""The files to compare: short names, order, the baseline, and that they share a vocabulary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.gguf_file.model_summary import Summary, summarize
from franken_gguf.quantize.gguf_file.split_files import joined, model_name
from franken_gguf.quantize.tensor_types.type_presets import PRESETS
from franken_gguf.runner.compare.measure.tasks import CompareError
from franken_gguf.runner.terminal.text import printable

_TYPE = re.compile(
    rf"[-._](?:({'|'.join(PRESETS)})(-size)?|(\d[\d.]*(?:bpw|[KMGT]iB)))$", re.IGNORECASE
)
"""What `convert` appends to a model's name: a type, a type whose size was the target, or a size."""
_VOCABULARY = {"tokens": "token", "merges": "merge"}


@dataclass(frozen=True)
class Candidate:
    """A model file and its header."""

    name: str
    """Its type, if that is unique, or its file's name."""
    header: Header
    summary: Summary


def read_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """The candidates, most bits per weight first. Raises GGUFError, CompareError, OSError."""
    headers = [joined(read_header(path)) for path in paths]
    seen = Counter(path.resolve() for path in paths)
    twice = next((path for path in paths if seen[path.resolve()] > 1), None)
    if twice:
        raise CompareError(f"{twice}: is given twice; give each model once")
    candidates = [
        Candidate(name, header, summarize(header))
        for name, header in zip(names(paths), headers, strict=True)
    ]
    return sorted(candidates, key=lambda one: (-one.summary.bits_per_weight, one.name))


def names(paths: Sequence[Path]) -> list[str]:
    """A short, unique name for each: its type or size, else its file's name, else its path."""
    stems = [model_name(path) for path in paths]
    types = [_type_or_size(found) if (found := _TYPE.search(stem)) else stem for stem in stems]
    for some in (types, stems):
        if len(set(some)) == len(some):
            return [printable(name) for name in some]
    return [printable(str(path)) for path in paths]


def _type_or_size(found: re.Match[str]) -> str:
    kind, suffix, number = found.groups()
    return number or kind.upper() + (suffix or "")


def choose_baseline(candidates: Sequence[Candidate], wanted: str | None) -> Candidate:
    """The candidate that `wanted` names by type, name or file; None is the least quantized.

    Raises CompareError.
    """
    if wanted is None:
        return candidates[0]
    for one in candidates:
        if wanted.casefold() == one.name.casefold() or _is_file(wanted, one.header.path):
            return one
    choices = ", ".join(one.name for one in candidates)
    raise CompareError(f"--baseline {wanted}: is not one of the models to compare: {choices}")


def _is_file(wanted: str, path: Path) -> bool:
    return Path(wanted).name == path.name and Path(wanted).resolve() == path.resolve()


def check_expert_names(candidate: Candidate, names: str) -> tuple[str, ...]:
    """The names of `--expert-names`. Raises CompareError if their number is not the experts'."""
    found = tuple(" ".join(name.split()) for name in names.split(","))
    if len(found) != candidate.summary.experts or not all(found):
        raise CompareError(
            f"--expert-names {names}: has {len(found)} names, but {candidate.header.path} has "
            f"{candidate.summary.experts} experts; give one for each, separated by commas"
        )
    return found


def check_vocabulary(baseline: Candidate, other: Candidate) -> None:
    """Raise CompareError, naming the first difference, if `other` has another vocabulary."""
    for part, what in _VOCABULARY.items():
        ours, theirs = _stored(baseline, part), _stored(other, part)
        if ours == theirs:
            continue
        place = next(
            (n for n, (mine, its) in enumerate(zip(ours, theirs, strict=False)) if mine != its),
            min(len(ours), len(theirs)),
        )
        mine, its = (repr(some[place]) if place < len(some) else "none" for some in (ours, theirs))
        raise CompareError(
            printable(
                f"{other.header.path}: its vocabulary differs from that of {baseline.header.path}: "
                f"{what} {place} is {its}, not {mine}; compare quants of the same model"
            )
        )


def _stored(candidate: Candidate, part: str) -> list[object]:
    found = candidate.header.metadata.get(f"tokenizer.ggml.{part}")
    return list(found.data) if found is not None and isinstance(found.data, list) else []
