"""The journal: a file next to an output that records its progress, to resume after a crash.

NAME.gguf.journal either has a complete first line or does not exist: it is written as
NAME.gguf.journal.part and renamed once it is on the disk. Its last line can be cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

import regex

from franken_gguf.quantize.common.files import FileStamp, sync_folder, write_all

from .jobs import START, Position
from .output import Output
from .output_names import part_of

# More than a journal with a line for every few seconds of work can reach.
_MAX_BYTES = 1 << 24
_MAX_FIRST_LINE = 512
_FIRST_LINE = regex.compile(
    rb'\{"version": "[\w.+!-]{1,64}", "source": "[0-9a-f]{64}", "options": "[0-9a-f]{64}"\}\n'
)


@dataclass(frozen=True)
class Identity:
    """Hashes that must be equal to resume an output. Named as in the journal."""

    version: str
    source: str
    options: str

    def difference(self, other: Mapping[str, Any]) -> str:
        """What differs in `other`, in words; empty if nothing does."""
        if other.get("source") != self.source:
            return "the source has changed since the last run"
        if other.get("options") != self.options:
            return "the last run had other options"
        if other.get("version") != self.version:
            return "the last run was by another version of franken-gguf"
        return ""


def identities(
    stamps: Sequence[FileStamp], outputs: Sequence[Output], fingerprint: bytes = b""
) -> list[Identity]:
    """The identity of each output made from files with these stamps.

    `fingerprint` stands for everything but files that the source depends on. Options are hashed by
    their effect: the headers, the importance of every column, and the files of second moments.
    """
    source = _digest(repr(sorted(stamps)).encode(), fingerprint)
    ours = version("franken-gguf")
    return [Identity(ours, source, _options(output)) for output in outputs]


def command_digest(outputs: Sequence[Output]) -> str:
    """A digest of the outputs that a command writes: their paths and options."""
    names = [str(output.path.resolve()) for output in outputs]
    return _digest(repr((names, [_options(output) for output in outputs])).encode())


def _options(output: Output) -> str:
    headers = [shard.header for shard in output.shards]
    importances = [t.importance.tobytes() for t in output.tensors if t.importance is not None]
    moments = [
        repr((t.moments.name, t.moments.stamp)).encode() for t in output.tensors if t.moments
    ]
    return _digest(*headers, *importances, *moments)


def _digest(*parts: bytes) -> str:
    """SHA-256 of the parts, including the boundaries between them."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def is_journal(path: Path) -> bool:
    """Whether the file begins with the first line of a journal. Raises OSError."""
    return _FIRST_LINE.match(_beginning(path)) is not None


def is_unfinished_journal(path: Path) -> bool:
    """Whether the file holds only a journal's first line, or the beginning of it.

    Zeros at the end are ignored: a power cut can leave them. Raises OSError.
    """
    written = _beginning(path).rstrip(b"\0")
    whole = path.stat().st_size <= _MAX_FIRST_LINE
    return whole and _FIRST_LINE.fullmatch(written, partial=True) is not None


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FIRST_LINE)


class Journal:
    """Lines of JSON: the identity, then every few seconds a position before which all is on disk.

        {"version": "0.1.0", "source": "9f86...", "options": "6030..."}
        {"tensor": 3, "row": 4096}
        {"tensor": 17, "row": 0}
        {"complete": "fd61..."}

    The farthest position counts; an incomplete line is ignored. The last line records that all
    outputs of the command with that digest are complete and on the disk, and only need renaming.
    """

    def __init__(self, path: Path, expected: Identity) -> None:
        self.path = path
        self.position = START
        self.complete = ""
        """The digest of the command whose outputs are all complete; empty if there is none."""
        self.refusal = ""
        """Why an earlier run cannot be resumed; empty if it can, or if there was none."""
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
        for line in others:
            match _object(line):
                case {"tensor": int(tensor), "row": int(row)}:
                    self.position = max(self.position, (tensor, row))
                case {"complete": str(command)}:
                    self.complete = command

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path.exists()

    def begin(self) -> None:
        """Start a new journal, which is on disk when this returns.

        Raises OSError; then an earlier journal is still in place.
        """
        self.close()
        part = part_of(self.path)
        try:
            with FileIO(part, "w") as file:
                write_all(file, json.dumps(vars(self._expected)).encode() + b"\n")
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        # An earlier journal must not reappear after a crash: its parts are about to be overwritten.
        sync_folder(self.path.parent)
        self.position, self.complete = START, ""

    def advance(self, position: Position) -> None:
        """Record that every row before `position` is on disk. Raises OSError."""
        self._append(b'{"tensor": %d, "row": %d}' % position)
        self.position = position

    def note_complete(self, command: str) -> None:
        """Record that every output of `command` is complete and on disk. Raises OSError."""
        if self.complete != command:
            self._append(json.dumps({"complete": command}).encode())
            self.complete = command

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self._file = FileIO(self.path, "r+")
            self._file.seek(0, os.SEEK_END)
        # The last line, of this run or an earlier one, can be incomplete.
        write_all(self._file, b"\n" + line + b"\n")
        os.fsync(self._file.fileno())

    def reset(self) -> None:
        """Reset to the first line: no progress. Raises OSError."""
        self.close()
        with FileIO(self.path, "r+") as file:
            file.truncate(len(file.readline()))
            os.fsync(file.fileno())
        self.position, self.complete = START, ""

    def delete(self) -> None:
        """Delete the file if it exists. Raises OSError."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and keep it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
