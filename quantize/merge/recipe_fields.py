"""One mapping of a recipe file, and the checks on its values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import MergeError, did_you_mean, shown

MOST_PROMPTS = 1024
"""Of all experts together: each leaves its states."""

_MOST_CHARACTERS = 1 << 16
_LARGEST = 1000.0


@dataclass(frozen=True)
class ModelPath:
    """What a recipe calls a model: a folder or GGUF file, and an adapter on top of it."""

    model: Path
    adapter: Path | None = None

    def __str__(self) -> str:
        return f"{self.model}+{self.adapter}" if self.adapter else str(self.model)


class Fields:
    """One mapping of a recipe, and the checks on its values."""

    def __init__(self, path: Path, where: str, values: Any, known: tuple[str, ...]) -> None:
        self._path = path
        self._where = f"{where}: " if where else ""
        if not isinstance(values, dict):
            raise self.error(f"holds no mapping; write {known[0]}: ...")
        for key in values:
            if key not in known:
                hint = did_you_mean(str(key), known) or f"the fields are {', '.join(known)}"
                raise self.error(f"unknown field {shown(key)}; {hint}")
        self._values = values

    def error(self, problem: str) -> MergeError:
        """What is wrong, and where."""
        return MergeError(f"{self._path}: {self._where}{problem}")

    def get(self, key: str, default: object = None) -> Any:
        """A value as it is; null counts as absent."""
        value = self._values.get(key)
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        """A finite number. Raises MergeError, as the others do."""
        value = self.get(key, default)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) <= _LARGEST:  # NaN is no less than anything
            raise self.error(f"{key}: {shown(value)} is not a number from -1000 to 1000")
        return float(value)

    def prompts(self, key: str) -> tuple[str, ...]:
        """A list of texts, which may be absent."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > MOST_PROMPTS:
            raise self.error(f"{key}: must be a list of at most {MOST_PROMPTS:,} texts")
        for text in value:
            if not isinstance(text, str) or not 0 < len(text) <= _MOST_CHARACTERS:
                raise self.error(
                    f"{key}: each must be a text of 1 to {_MOST_CHARACTERS} characters; put it in "
                    "quotes where YAML reads a number or yes and no"
                )
        return tuple(value)

    def file(self, key: str) -> Path | None:
        """The path of a file that is there; None where the recipe names none."""
        value = self.get(key)
        if value is None:
            return None
        found = self._found(value) if isinstance(value, str) else None
        if found is None or not found.is_file():
            raise self.error(f"{key}: {shown(value)}: no such file")
        return found

    def model(self, key: str) -> ModelPath:
        """The path of a model that is there, with an adapter behind a plus."""
        value = self.get(key)
        # mergekit writes long forms too: {model: {path: ...}, lora: ...}.
        if not isinstance(value, str) or not value:
            raise self.error(f"{key}: must be the path of a model")
        if (whole := self._found(value)) is not None:
            return ModelPath(whole)
        model, plus, adapter = value.rpartition("+")
        for part in (model, adapter) if plus else (value,):
            if not part or self._found(part) is None:
                raise self.error(
                    f"{key}: {shown(part or value)}: no such folder or file; models are not "
                    "downloaded here, fetch it and give its path"
                )
        return ModelPath(self._found(model) or Path(), self._found(adapter))

    def _found(self, text: str) -> Path | None:
        try:
            path = Path(text).expanduser()
            return next((one for one in (self._path.parent / path, path) if one.exists()), None)
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, ~ of nobody
            return None
