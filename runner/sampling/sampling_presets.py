"""Named settings, ours and the user's own, from files that people can read."""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from franken_gguf.quantize.common.yaml_files import read_yaml

from .settings import Sampling, SamplingError

Settings = dict[str, Any]
_MAX_BYTES = 1 << 16


def user_file() -> Path:
    """Where the user's own presets are, by their platform's custom."""
    return user_config_path("franken-gguf", appauthor=False) / "presets.yml"


def presets() -> dict[str, Settings]:
    """All presets by name. Raises SamplingError, which names the file and the mend."""
    ours = Path(str(files(__package__) / "presets.yml"))
    found = _read(ours)
    if (own := user_file()).exists():
        found |= _read(own)
    return found


def preset(name: str) -> Settings:
    """The settings of one. Raises SamplingError where there is none of that name."""
    found = presets()
    if name not in found:
        raise SamplingError(
            f"there is no preset {name!r}; there are {', '.join(found)}, and more may stand in "
            f"{user_file()}"
        )
    return found[name]


def _read(path: Path) -> dict[str, Settings]:
    document = read_yaml(path, SamplingError, _MAX_BYTES)
    if not isinstance(document, dict):
        raise SamplingError(f"{path}: must hold a name and settings for each preset")
    return {str(name): _settings(f"{path}: {name}", each) for name, each in document.items()}


def _settings(where: str, stored: Any) -> Settings:
    if not isinstance(stored, dict):
        raise SamplingError(f"{where}: must be settings by their names, such as temperature: 0.8")
    kinds = {field.name: type(getattr(Sampling, field.name)) for field in fields(Sampling)}
    found: Settings = {}
    for name, value in stored.items():
        kind = kinds.get(name)
        if kind is None:
            raise SamplingError(f"{where}: there is no setting {name!r}; /set lists them")
        if kind is tuple:
            value = tuple(value) if isinstance(value, list) else value
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SamplingError(f"{where}: {name} is no {_KINDS[kind]}")
        found[name] = value
    try:
        Sampling(**found)
    except (SamplingError, TypeError, ValueError) as error:
        raise SamplingError(f"{where}: {error}") from None
    return found


_KINDS = {int: "whole number", float: "number", str: "text", tuple: "list"}
