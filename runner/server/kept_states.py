"""Evaluated contexts kept for later: in memory, then on disk, the least recently used dropped.

Before a prompt is evaluated, the kept context that shares the longest beginning with it takes the
place of the present one, which is kept in turn. So a story that another one interrupted, or a
restart of the server, is not evaluated again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from franken_gguf.runner.chat.prompt_cache import fingerprint
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine

from .kept_files import KeptFiles, State, Tokens

_WORTH = 64
"""Tokens. To evaluate fewer again is cheaper than to keep or to restore a context."""
_LONG_ANSWER = 512
"""Tokens. A shorter answer is not kept when it is written anew: a copy holds its whole context."""


@dataclass(eq=False)
class Kept:
    """One context. `data` is None once it is only on disk, `path` while it is not."""

    tokens: Tokens
    nbytes: int
    used: float
    data: State | None = None
    path: Path | None = None
    is_leaving: bool = False
    """Whether it is being written, to leave memory then."""


class KeptStates:
    """The kept contexts of `engine`: up to `max_ram` bytes in memory, `max_disk` in `folder`.

    To be used in one thread, the engine's. What leaves memory is written in a thread of its own,
    one context at a time, so that memory is exceeded by one at most.
    """

    def __init__(
        self, engine: Engine, folder: Path | None = None, max_ram: int = 0, max_disk: int = 0
    ) -> None:
        self.states: list[Kept] = []
        self._engine = engine
        self._max_ram = max_ram
        self._files: KeptFiles | None = None
        self._lock = threading.RLock()
        """Held while `states` or a Kept is changed: the writing thread does so too."""
        self._writer = ThreadPoolExecutor(1, "kept contexts")
        self._writing: Future[None] | None = None
        if folder is not None and max_disk:
            self._files = KeptFiles(folder, fingerprint(engine), max_disk)
            for path, tokens, nbytes, used in self._files.all(engine.n_ctx):
                self.states.append(Kept(tokens, nbytes, used, path=path))

    def take_up(self, prompt: Sequence[int]) -> None:
        """Bring the kept context into the engine that saves most of evaluating `prompt`."""
        wanted, present = _array(prompt), _array(self._engine.evaluated)
        with self._lock:
            states = list(self.states)
        shared = common(present, wanted)
        best = max(states, key=lambda one: common(one.tokens, wanted), default=None)
        is_better = best is not None and common(best.tokens, wanted) >= shared + _WORTH
        lost = len(present) - shared
        is_again = shared == len(wanted) and shared > lost  # the same turn is answered anew
        if lost >= (_LONG_ANSWER if is_again else _WORTH):
            self.keep(present)
        if best is not None and is_better:
            self._restore(best)
            if len(best.tokens) - common(best.tokens, wanted) < _WORTH:
                self._let_go(best)  # it is kept again, with what follows, when another comes

    def keep(self, present: Tokens) -> None:
        """Keep the engine's context, whose tokens are `present`."""
        with self._lock:
            for one in self.states:
                if common(one.tokens, present) == len(present):  # it is kept, with more after it
                    one.used = time.time()
                    return
            for one in list(self.states):
                if common(one.tokens, present) == len(one.tokens):  # the present one continues it
                    self._drop(one)
        nbytes = self._engine.state_size()
        if nbytes > max(self._max_ram, self._files.max_bytes if self._files else 0):
            return
        with suppress(EngineError):
            state = Kept(present, nbytes, time.time(), self._engine.state())
            with self._lock:
                self.states.append(state)
            self._make_room()

    def save(self) -> None:
        """Write the engine's context and all that is only in memory to the folder."""
        present = _array(self._engine.evaluated)
        if len(present) >= _WORTH:
            self.keep(present)
        for state in self._staying():
            self._send_away(state)
        self._writer.shutdown()

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

    def _read(self, state: Kept) -> State | None:
        path = state.path
        return self._files.read(path, state.tokens) if self._files and path else None

    def _let_go(self, state: Kept) -> None:
        """Free the memory of a context that the engine has now, or that is on disk."""
        with self._lock:
            state.data = None
            if state.path is None and state in self.states:
                self.states.remove(state)

    def _make_room(self) -> None:
        """Let the least recently used leave memory."""
        staying = self._staying()
        while sum(one.nbytes for one in staying) > self._max_ram:
            self._send_away(staying.pop(0))

    def _staying(self) -> list[Kept]:
        """The contexts in memory that are to stay there, the least recently used first."""
        with self._lock:
            found = [one for one in self.states if one.data is not None and not one.is_leaving]
        return sorted(found, key=lambda one: one.used)

    def _send_away(self, state: Kept) -> None:
        """Free a context's memory, once it is on disk if it may be kept there."""
        files, data = self._files, state.data
        if files is None or data is None or state.path or state.nbytes > files.max_bytes:
            self._let_go(state)
            return
        if self._writing is not None:
            self._writing.result()
        state.is_leaving = True
        self._writing = self._writer.submit(self._write, files, state, data)

    def _write(self, files: KeptFiles, state: Kept, data: State) -> None:
        path = state.path or files.write(state.tokens, data)
        with self._lock:
            if state in self.states:
                state.path = path
                state.is_leaving = False
                self._let_go(state)
            elif path is not None:  # it was taken up meanwhile
                path.unlink(missing_ok=True)
        for deleted in files.limit():
            self._forget(deleted)

    def _forget(self, path: Path) -> None:
        """Note that a file is gone."""
        with self._lock:
            for state in [one for one in self.states if one.path == path]:
                state.path = None
                if state.data is None:
                    self.states.remove(state)

    def _drop(self, state: Kept) -> None:
        with self._lock:
            if state in self.states:
                self.states.remove(state)
            if state.path:
                state.path.unlink(missing_ok=True)


def common(first: Tokens, second: Tokens) -> int:
    """The length of the longest prefix that both have."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length


def _array(tokens: Sequence[int]) -> Tokens:
    return np.array(tokens, np.int32)
