"""Evaluated contexts kept for later: in memory, then on disk, the least recently used dropped.

Before a prompt is evaluated, the kept context that shares the longest beginning with it takes the
place of the present one, which is kept in turn. So a story that another one interrupted, or a
restart of the server, is not evaluated again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.files import replacing
from franken_gguf.runner.chat.prompt_cache import fingerprint
from franken_gguf.runner.conversation.session import make_private
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine

_WORTH = 64
"""Tokens. To evaluate fewer again is cheaper than to keep or to restore a context."""
_SUFFIX = ".kv"
_MAGIC = b"FGKV\1"
_HEAD = struct.Struct("<5sI")  # magic, number of tokens
_HASH_BYTES = 32

Tokens = NDArray[np.int32]


@dataclass(eq=False)
class Kept:
    """One context. `data` is None once it is only on disk, `path` while it is not."""

    tokens: Tokens
    nbytes: int
    used: float
    data: NDArray[np.uint8] | None = None
    path: Path | None = None


class KeptStates:
    """The kept contexts of `engine`: up to `max_ram` bytes in memory, `max_disk` in `folder`.

    To be used in one thread, the engine's.
    """

    def __init__(
        self, engine: Engine, folder: Path | None = None, max_ram: int = 0, max_disk: int = 0
    ) -> None:
        self.states: list[Kept] = []
        self._engine = engine
        self._folder = folder if max_disk else None
        self._max_ram = max_ram
        self._max_disk = max_disk
        self._key = fingerprint(engine)
        if self._folder is not None:
            make_private(self._folder)
            self._read_folder(self._folder)

    def take_up(self, prompt: Sequence[int]) -> None:
        """Bring the kept context into the engine that saves most of evaluating `prompt`."""
        wanted, present = _array(prompt), _array(self._engine.evaluated)
        shared = common(present, wanted)
        best = max(self.states, key=lambda one: common(one.tokens, wanted), default=None)
        is_better = best is not None and common(best.tokens, wanted) >= shared + _WORTH
        if len(present) - shared >= _WORTH:
            self.keep(present)
        if best is not None and is_better:
            self._restore(best)
            if len(best.tokens) - common(best.tokens, wanted) < _WORTH:
                self._let_go(best)  # it is kept again, with what follows, when another comes

    def keep(self, present: Tokens) -> None:
        """Keep the engine's context, whose tokens are `present`."""
        for one in self.states:
            if common(one.tokens, present) == len(present):  # it is kept, with more after it
                one.used = time.time()
                return
        for one in [one for one in self.states if common(one.tokens, present) == len(one.tokens)]:
            self._drop(one)  # the present one continues it
        nbytes = self._engine.state_size()
        if nbytes > max(self._max_ram, self._max_disk):
            return
        with suppress(EngineError):
            state = Kept(present, nbytes, time.time(), self._engine.state())
            self.states.append(state)
            self._make_room()

    def save(self) -> None:
        """Write the engine's context and all that is only in memory to the folder."""
        present = _array(self._engine.evaluated)
        if len(present) >= _WORTH:
            self.keep(present)
        for state in sorted(self.states, key=lambda one: one.used):
            self._to_disk(state)

    def _restore(self, state: Kept) -> None:
        state.used = time.time()
        data = state.data
        if data is None and (data := self._read(state)) is None:
            self._drop(state)
            return
        try:
            self._engine.set_state(state.tokens.tolist(), data)
        except EngineError:
            self._drop(state)

    def _let_go(self, state: Kept) -> None:
        """Free the memory of a context that the engine has now."""
        state.data = None
        if state.path is None and state in self.states:
            self.states.remove(state)

    def _make_room(self) -> None:
        in_memory = sorted((one for one in self.states if one.data is not None), key=_age)
        while sum(one.nbytes for one in in_memory) > self._max_ram:
            self._to_disk(oldest := in_memory.pop(0))
            self._let_go(oldest)

    def _drop(self, state: Kept) -> None:
        if state in self.states:
            self.states.remove(state)
        if state.path:
            state.path.unlink(missing_ok=True)

    def _to_disk(self, state: Kept) -> None:
        if self._folder is None or state.data is None or state.nbytes > self._max_disk:
            return
        if state.path is None:
            path = self._folder / f"{self._prefix}{uuid.uuid4().hex}{_SUFFIX}"
            with suppress(OSError):  # a full disk: it is a cache
                _write(path, self._key, state.tokens, state.data)
                state.path = path
        self._limit_folder(self._folder)

    def _limit_folder(self, folder: Path) -> None:
        """Delete the oldest files, other models' too, until the rest is within the limit."""
        files = []
        for path in folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_disk:
                return
            path.unlink(missing_ok=True)
            total -= size
            for state in [one for one in self.states if one.path == path]:
                state.path = None
                if state.data is None:
                    self.states.remove(state)

    @property
    def _prefix(self) -> str:
        return f"{self._key.hex()[:16]}-"

    def _read_folder(self, folder: Path) -> None:
        for path in folder.glob(f"{self._prefix}*{_SUFFIX}"):
            with suppress(OSError), path.open("rb") as file:
                magic, count = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size))
                if magic == _MAGIC and count <= self._engine.n_ctx:
                    tokens = np.frombuffer(file.read(4 * count), "<i4")
                    state = path.stat()
                    self.states.append(Kept(tokens, state.st_size, state.st_mtime, path=path))

    def _read(self, state: Kept) -> NDArray[np.uint8] | None:
        """A context's data from its file; None if the file is gone or has changed."""
        assert state.path is not None
        try:
            content = np.fromfile(state.path, np.uint8)
            state.path.touch()
        except OSError:
            return None
        start = _HEAD.size + 4 * len(state.tokens)
        stored, content = content[-_HASH_BYTES:], content[:-_HASH_BYTES]
        if not hmac.compare_digest(stored.tobytes(), _digest(self._key, content)):
            return None
        return content[start:].copy()  # aligned


def common(first: Tokens, second: Tokens) -> int:
    """The length of the longest prefix that both have."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length


def _array(tokens: Sequence[int]) -> Tokens:
    return np.array(tokens, np.int32)


def _age(state: Kept) -> float:
    return state.used


def _digest(key: bytes, *parts: NDArray[np.uint8]) -> bytes:
    result = hashlib.blake2b(key=key, digest_size=_HASH_BYTES)
    for part in parts:
        result.update(part.data)
    return result.digest()


def _write(path: Path, key: bytes, tokens: Tokens, data: NDArray[np.uint8]) -> None:
    """Write a file whose end is a hash over all of it; it has its name once it is complete."""
    head = np.frombuffer(_HEAD.pack(_MAGIC, len(tokens)) + tokens.astype("<i4").tobytes(), np.uint8)
    with replacing(path, mode=0o600) as part, part.open("wb") as file:
        for piece in (head, data):
            file.write(piece.data)
        file.write(_digest(key, head, data))
