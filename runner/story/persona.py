"""Personas: who the user is in a story, read from a file or by a name in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from franken_gguf.quantize.common.errors import did_you_mean
from franken_gguf.runner.conversation.session import data_folder

from .card_fields import Fields, StoryError, clean, one_line, parse, read_bytes

_MAX_BYTES = 1 << 20
_SUFFIXES = (".json", ".txt", ".md")


@dataclass(frozen=True)
class Persona:
    """The user's name in the story, and a description with its macros."""

    name: str
    description: str


def read_persona(path: Path) -> Persona:
    """The persona in a JSON file {"name", "description"}, or in a text file named after it.

    Raises StoryError, naming the file.
    """
    data = read_bytes(path, _MAX_BYTES)
    name = one_line(path.stem)
    try:
        if path.suffix.lower() == ".json":
            fields = Fields(parse(data), [])
            name, description = one_line(fields.text("name")) or name, fields.text("description")
        else:
            description = clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise StoryError(f"{path}: it is not UTF-8 text") from None
    except StoryError as error:
        raise StoryError(f"{path}: {error}") from None
    if not description.strip():
        raise StoryError(f"{path}: it has no description of you")
    return Persona(name, description.strip())


def persona_path(given: str) -> Path:
    """The file that `given` names: a path, or else a persona in the library. Raises StoryError."""
    path = Path(given).expanduser()
    if path.is_file():
        return path
    known = _library()
    for name in (given, *(one for one in known if one.casefold() == given.casefold())):
        if name in known:
            return known[name]
    text = f"{given}: no such file, and no persona of that name in {_folder()}"
    hint = did_you_mean(given, known)
    raise StoryError(f"{text}; {hint}" if hint else text)


def persona_named(name: str) -> Path | None:
    """The file of a persona in the library; None if there is none of that name."""
    return _library().get(name)


def persona_names() -> list[str]:
    """The names of the personas in the library."""
    return sorted(_library())


def _library() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_folder().glob("[!.]*")) if path.suffix in _SUFFIXES}


def _folder() -> Path:
    return data_folder() / "personas"
