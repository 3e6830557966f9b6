"""Records what llama.cpp is doing, where another process can read it after a crash.

The memory is shared with a process that outlives this one: a supervisor or a watcher. Writing
copies a few bytes, without a system call. If no process shares it, private memory is used.

    offset   bytes
         0      32   what llama.cpp is doing, in words; empty between two calls
        32    1024   the model's name, UTF-8
      1056     992   why llama.cpp aborted, if it reported that, UTF-8
      2048       8   bytes of the form, little-endian; 0 if there is none
      2056       8   bytes of the answer
      2064       -   the form, then the answer

The form is a file to complete with the answer: its path and its pieces, separated by zero bytes.
The content of the file is the pieces joined by the answer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from franken_gguf.runner.terminal.text import printable

LOADING, READING, ANSWERING = "loading the model", "reading the prompt", "answering"

_DOING, _MODEL, _REASON, _LENGTHS = slice(0, 32), slice(32, 1056), slice(1056, 2048), 2048
_FORM = _LENGTHS + 16
HEADER_BYTES = _FORM
"""Memory for a record without a form."""


@dataclass(frozen=True)
class Flight:
    """The record of a process."""

    model: str = ""
    doing: str = ""
    """LOADING, READING or ANSWERING; "" if llama.cpp was not working."""
    reason: str = ""
    """Why llama.cpp aborted the process, if it reported that."""
    path: Path | None = None
    """The file to complete with the answer, if any."""
    content: bytes = b""
    """That file's content, with the answer so far."""


class FlightRecorder:
    """Writes the record. One for the process: `recorder`."""

    def __init__(self) -> None:
        self.is_read = False
        """Whether another process reads the record if this one dies."""
        self._named = ""
        self.leave()

    def share(self, memory: Any) -> None:
        """Write to `memory` from now on: a writable buffer of at least HEADER_BYTES."""
        self._memory, self.is_read = memory, True

    def leave(self) -> None:
        """Write to memory that no other process sees."""
        self._memory, self.is_read = bytearray(HEADER_BYTES), False

    @contextmanager
    def during(self, doing: str, model: str) -> Iterator[None]:
        """Record that llama.cpp is `doing` (LOADING, READING or ANSWERING) with `model`."""
        before = bytes(self._memory[_DOING])
        self._write(_MODEL, self._named or model)
        self._write(_DOING, doing)
        try:
            yield
        finally:
            self._memory[_DOING] = before

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Record `name` for any model file: for temporary files, which the user did not name."""
        before, self._named = self._named, name
        try:
            yield
        finally:
            self._named = before

    def record_abort(self, reason: bytes) -> None:
        """Record why llama.cpp is about to abort the process."""
        self._write(_REASON, " ".join(reason.decode(errors="replace").split()))

    def begin(self, path: Path, pieces: Sequence[bytes]) -> None:
        """Start a form: the file `path` with `pieces`, to be joined by the answer.

        If it does not fit into the memory, no form is recorded.
        """
        self.forget()
        form = b"\0".join((os.fsencode(path), *pieces))
        if _FORM + len(form) <= len(self._memory):
            self._memory[_FORM : _FORM + len(form)] = form
            struct.pack_into("<QQ", self._memory, _LENGTHS, len(form), 0)

    def add(self, text: bytes) -> None:
        """Append `text`, as encoded in the file, to the answer; what does not fit is left out."""
        form, length = struct.unpack_from("<QQ", self._memory, _LENGTHS)
        end = _FORM + form + length
        if form and end + len(text) <= len(self._memory):
            self._memory[end : end + len(text)] = text
            struct.pack_into("<Q", self._memory, _LENGTHS + 8, length + len(text))

    def forget(self) -> None:
        """Drop the form, once its file is written."""
        struct.pack_into("<QQ", self._memory, _LENGTHS, 0, 0)

    def _write(self, field: slice, text: str) -> None:
        self._memory[field] = _padded(text, field.stop - field.start)


@lru_cache(maxsize=16)
def _padded(text: str, room: int) -> bytes:
    return printable(text).encode(errors="replace")[:room].ljust(room, b"\0")


recorder = FlightRecorder()
"""The only one of the process: two models working at once overwrite each other's record."""


def read(memory: Any) -> Flight:
    """The record in `memory`."""
    model, doing, reason = (_text(memory, field) for field in (_MODEL, _DOING, _REASON))
    form, length = struct.unpack_from("<QQ", memory, _LENGTHS)
    if not form:
        return Flight(model, doing, reason)
    path, *pieces = bytes(memory[_FORM : _FORM + form]).split(b"\0")
    answer = bytes(memory[_FORM + form : _FORM + form + length])
    return Flight(model, doing, reason, Path(os.fsdecode(path)), answer.join(pieces))


def _text(memory: Any, field: slice) -> str:
    return bytes(memory[field]).rstrip(b"\0").decode(errors="replace")
