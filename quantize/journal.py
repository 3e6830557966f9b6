"""How far an output is: a file beside it, which outlives whatever ends the process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

from .files import FileStamp
from .jobs import START, Position
from .output import Output

# A line for every few seconds of work: more than this is no journal of ours.
_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Identity:
    """What must be the same for an output to be gone on with, and the command it belongs to."""

    version: str
    source: str
    options: str
    command: str

    def difference(self, other: Mapping[str, Any]) -> str:
        """What is different in `other`, in words; empty where nothing is."""
        if other.get("source") != self.source:
            return "the source has changed since the last run"
        if other.get("options") != self.options:
            return "the last run had other options"
        if other.get("version") != self.version:
            return "the last run was another version's"
        return ""


def identities(
    stamps: Sequence[FileStamp], outputs: Sequence[Output], fingerprint: bytes = b""
) -> list[Identity]:
    """The identity of each output of one command, made from files with these stamps.

    `fingerprint` is what the source depends on besides its files.

    The options are hashed as what they lead to: the headers, and the importance of every column.
    """
    source = _digest(repr(sorted(stamps)).encode(), fingerprint)
    options = [_options(output) for output in outputs]
    names = [str(output.path.resolve()) for output in outputs]
    command = _digest(repr((options, names)).encode())
    this = version("franken-gguf")
    return [Identity(this, source, each, command) for each in options]


def _options(output: Output) -> str:
    headers = [shard.header for shard in output.shards]
    importances = [t.importance.tobytes() for t in output.tensors if t.importance is not None]
    return _digest(*headers, *importances)


def _digest(*parts: bytes) -> str:
    """Of the parts, and of where one ends and the next begins."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def is_journal(path: Path) -> bool:
    """Whether the file is a journal, or is empty as one is that was killed as it began."""
    with path.open("rb") as file:
        first = file.readline(_MAX_BYTES)
    return not first or set(_object(first)) == {field.name for field in fields(Identity)}


class Journal:
    """Lines of JSON: the identity, then every few seconds the position up to which all is on disk.

        {"version": "0.1.0", "source": "9f86...", "options": "6030...", "command": "fd61..."}
        {"tensor": 3, "row": 4096}
        {"tensor": 17, "row": 0}

    The farthest counts. A line that was cut by a crash is none.
    """

    def __init__(self, path: Path, expected: Identity) -> None:
        self.path = path
        self.position = START
        self.refusal = ""
        """Why what was there cannot be gone on with; empty where it can, or nothing was."""
        self.is_same_command = False
        self._expected = expected
        self._file: FileIO | None = None
        self._read()

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                first, *others = file.read(_MAX_BYTES).split(b"\n")
        except FileNotFoundError:
            return
        begun = _object(first)
        self.refusal = self._expected.difference(begun) if begun else ""
        if self.refusal or not begun:
            return
        self.is_same_command = begun.get("command") == self._expected.command
        for line in others:
            match _object(line):
                case {"tensor": int(tensor), "row": int(row)}:
                    self.position = max(self.position, (tensor, row))

    def begin(self) -> None:
        """Start a new journal, at the beginning."""
        self.position = START
        self._file = FileIO(self.path, "w")
        self._file.write(json.dumps(vars(self._expected)).encode() + b"\n")

    def advance(self, position: Position) -> None:
        """Note that every row before `position` is on disk. Raises OSError."""
        if self._file is None:
            self._file = FileIO(self.path, "a")
            self._file.write(b"\n")  # what the last run ended with may be half a line
        self._file.write(b'{"tensor": %d, "row": %d}\n' % position)
        self.position = position

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
