"""Cards and lorebooks that were uploaded: files named by a hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from franken_gguf.runner.conversation.session import make_private, replacing
from franken_gguf.runner.story.card import Card, card_in, read_card
from franken_gguf.runner.story.card_fields import StoryError, one_line, parse
from franken_gguf.runner.story.lorebook import Lorebook, lorebook_in, read_lorebook

from .refusals import RequestError

_ID_BYTES = 12
_PNG, _ZIP = b"\x89PNG", b"PK\3\4"
_MAX_FILES = 10_000
Kind = TypeVar("Kind")


class Shelf(Generic[Kind]):
    """The uploaded files of one kind, in `folder`."""

    def __init__(
        self,
        folder: Path,
        read: Callable[[Path], Kind],
        to_keep: Callable[[bytes, str], bytes],
    ) -> None:
        """`to_keep` checks an uploaded file, given with its name, and returns what to store."""
        self._folder = folder
        self._read = read
        self._to_keep = to_keep

    def add(self, data: bytes, name: str) -> str:
        """Keep a file, whose name was `name`, and return its id. Raises StoryError."""
        data = self._to_keep(data, name)
        number = hashlib.blake2b(data, digest_size=_ID_BYTES).hexdigest()
        suffix = ".png" if data.startswith(_PNG) else ".charx" if data[:4] == _ZIP else ".json"
        make_private(self._folder)
        if len(list(self._folder.iterdir())) >= _MAX_FILES:
            raise RequestError(f"there are {_MAX_FILES} files already; delete some", status=409)
        with replacing(self._folder / (number + suffix)) as part:
            part.write_bytes(data)
        return number

    def path(self, number: str) -> Path:
        """The file of an id. Raises RequestError if there is none."""
        if number.isalnum():
            for path in self._folder.glob(f"{number}.*"):
                return path
        raise RequestError(f"there is nothing with the id {number[:50]!r}", status=404)

    def get(self, number: str) -> Kind:
        """What the file of an id holds. Raises RequestError, StoryError."""
        return self._read(self.path(number))

    def all(self) -> Iterator[tuple[str, Kind]]:
        """All files' ids and contents, the newest first, without those that cannot be read."""
        for path in sorted(self._folder.glob("[!.]*"), key=_changed, reverse=True):
            with suppress(StoryError, OSError):
                yield path.stem, self._read(path)

    def delete(self, number: str) -> None:
        """Delete the file of an id. Raises RequestError if there is none."""
        self.path(number).unlink(missing_ok=True)


class Library:
    """The uploaded cards and lorebooks, in two folders of `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.cards = Shelf[Card](folder / "cards", read_card, _card)
        self.lorebooks = Shelf[Lorebook](folder / "lorebooks", read_lorebook, _lorebook)


def _card(data: bytes, _: str) -> bytes:
    card_in(data)
    return data


def _lorebook(data: bytes, name: str) -> bytes:
    """SillyTavern's world files have no name of their own: they get that of the file."""
    lorebook_in(data, name)
    found = parse(data)
    if "entries" not in found or found.get("name"):
        return data
    stem = one_line(Path(name).stem) or "Lorebook"
    return json.dumps({**found, "name": stem}, ensure_ascii=False).encode(errors="replace")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
