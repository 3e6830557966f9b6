"""Named sampling presets: the built-in ones and the user's own, both YAML files."""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from franken_gguf.quantize.common.yaml_files import read_yaml

from .settings import Sampling, SamplingError, token_bias

Settings = dict[str, Any]
_MAX_BYTES = 1 << 16


def user_file() -> Path:
    """The path of the user's own presets, in the platform's configuration folder."""
    return user_config_path("franken-gguf", appauthor=False) / "presets.yml"


def presets() -> dict[str, Settings]:
    """All presets by name; the user's replace built-in ones. Raises SamplingError."""
    by_name = _read(Path(str(files(__package__) / "presets.yml")))
    if (own := user_file()).exists():
        by_name |= _read(own)
    return by_name


def preset(name: str) -> Settings:
    """The settings of the preset `name`. Raises SamplingError if there is none."""
    by_name = presets()
    if name not in by_name:
        raise SamplingError(
            f"there is no preset {name!r}; there are {', '.join(by_name)}; add your own in "
            f"{user_file()}"
        )
    return by_name[name]


def _read(path: Path) -> dict[str, Settings]:
    document = read_yaml(path, SamplingError, _MAX_BYTES)
    if not isinstance(document, dict):
        raise SamplingError(f"{path}: must hold presets by name, each with its settings")
    return {
        str(name): checked_settings(f"{path}: {name}", stored) for name, stored in document.items()
    }


def checked_settings(where: str, stored: Any) -> Settings:
    """Settings by name, as YAML or JSON has them, as `Sampling` takes them.

    Raises SamplingError, which begins with `where`.
    """
    if not isinstance(stored, dict):
        raise SamplingError(f"{where}: must hold settings by name, such as temperature: 0.8")
    kinds = {field.name: type(getattr(Sampling, field.name)) for field in fields(Sampling)}
    settings: Settings = {}
    for name, value in stored.items():
        kind = kinds.get(name)
        if kind is None:
            raise SamplingError(f"{where}: there is no setting {name!r}; /set lists them")
        if kind is tuple:
            value = _members(f"{where}: {name}", name, value)
        elif kind is float and type(value) is int and abs(value) < _MOST:
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SamplingError(f"{where}: {name} must be a {_KINDS[kind]}")
        settings[name] = value
    try:
        Sampling(**settings)
    except (SamplingError, TypeError, ValueError) as error:
        raise SamplingError(f"{where}: {error}") from None
    return settings


def _members(where: str, name: str, value: Any) -> Any:
    """A list of texts as a tuple; biases can be written ID+N or ID-N, as for --logit-bias."""
    if not isinstance(value, list):
        return value
    if name == "logit_bias":
        return tuple(map(_bias, value))
    if not all(isinstance(one, str) for one in value):
        raise SamplingError(f"{where} must be a list of texts")
    return tuple(value)


def _bias(stored: Any) -> tuple[int, float]:
    try:
        token, bias = token_bias(stored) if isinstance(stored, str) else stored
        return int(token), float(bias)
    except (TypeError, ValueError, OverflowError):
        raise SamplingError("write a bias as 15043+1, or as [15043, 1.0]") from None


_MOST = 1 << 63
_KINDS = {int: "whole number", float: "number", str: "text", tuple: "list"}
