"""Typed, checked access to the fields of a recipe file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import MergeError, did_you_mean, shown
from franken_gguf.quantize.hub.hub_cache import find_cached, folder_name
from franken_gguf.quantize.hub.hub_name import HubName, hub_name

MOST_PROMPTS = 1024
"""Of all experts together; the states of each are kept in memory."""

FindModel = Callable[[HubName], Path | None]
"""Finds the folder or file of a model of the Hub; None if it is not on this machine."""

_MOST_CHARACTERS = 1 << 16
_LARGEST = 1000.0


@dataclass(frozen=True)
class ModelPath:
    """A model in a recipe: a folder or GGUF file, and an adapter to apply to it."""

    model: Path
    adapter: Path | None = None

    @property
    def name(self) -> str:
        """What to call it: by its adapter, if it has one."""
        return folder_name(self.adapter or self.model)

    def __str__(self) -> str:
        return f"{self.model}+{self.adapter}" if self.adapter else str(self.model)


class Fields:
    """One mapping of a recipe; its values are checked as they are read.

    `where` is its place in the file, for error messages; `known` are the allowed fields; `find`
    finds models that are named as on the Hub.
    """

    def __init__(
        self,
        path: Path,
        where: str,
        values: Any,
        known: tuple[str, ...],
        find: FindModel = find_cached,
    ) -> None:
        self.path = path
        self._where = f"{where}: " if where else ""
        if not isinstance(values, dict):
            raise self.error(f"is not a mapping; write {known[0]}: ...")
        for key in values:
            if key not in known:
                hint = did_you_mean(str(key), known) or f"the fields are {', '.join(known)}"
                raise self.error(f"unknown field {shown(key)}; {hint}")
        self._values = values
        self._find = find

    def error(self, problem: str) -> MergeError:
        """The error that reports `problem`, naming the file and the place."""
        return MergeError(f"{self.path}: {self._where}{problem}")

    def get(self, key: str, default: object = None) -> Any:
        """The unchecked value; null counts as absent."""
        value = self._values.get(key)
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        """A number from -1000 to 1000. Raises MergeError, as all of these do."""
        value = self.get(key, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not abs(value) <= _LARGEST:  # also for NaN, which compares false
            raise self.error(f"{key}: {shown(value)} is not a number from -1000 to 1000")
        return float(value)

    def prompts(self, key: str) -> tuple[str, ...]:
        """A list of prompts; empty if it is absent."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > MOST_PROMPTS:
            raise self.error(f"{key}: must be a list of at most {MOST_PROMPTS:,} prompts")
        for text in value:
            if not isinstance(text, str) or not 0 < len(text) <= _MOST_CHARACTERS:
                raise self.error(
                    f"{key}: each must be a text of 1 to {_MOST_CHARACTERS} characters; put "
                    "numbers, yes and no in quotes"
                )
        return tuple(value)

    def file(self, key: str) -> Path | None:
        """The path of an existing file; None if the field is absent."""
        value = self.get(key)
        if value is None:
            return None
        path = self._existing(value) if isinstance(value, str) else None
        if path is None or not path.is_file():
            raise self.error(f"{key}: {shown(value)}: no such file")
        return path

    def model(self, key: str) -> ModelPath:
        """The path of an existing model: MODEL or MODEL+ADAPTER, each a path or a Hub name."""
        value = self.get(key)
        # mergekit also has a long form: {model: {path: ...}, lora: ...}; not supported.
        if not isinstance(value, str) or not value:
            raise self.error(f"{key}: must be the path of a model")
        if (whole := self._existing(value)) is not None:
            return ModelPath(whole)
        model, _, adapter = value.rpartition("+")
        if not (model and adapter):
            return ModelPath(self._model(key, value))
        return ModelPath(self._model(key, model), self._model(key, adapter))

    def _model(self, key: str, text: str) -> Path:
        if (path := self._existing(text)) is not None:
            return path
        name = hub_name(text)
        if name and (path := self._find(name)) is not None:
            return path
        if name:
            elsewhere = ", and not in the Hugging Face cache; add --download to fetch it"
        else:
            elsewhere = "; give the path of a model, or its name on the Hub, as in org/name"
        raise self.error(f"{key}: {shown(text)}: no such folder or file{elsewhere}")

    def _existing(self, text: str) -> Path | None:
        """The path, relative to the recipe's folder or else the current one, if it exists."""
        try:
            path = Path(text).expanduser()
            candidates = self.path.parent / path, path
            return next((candidate for candidate in candidates if candidate.exists()), None)
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, ~ of an unknown user
            return None
