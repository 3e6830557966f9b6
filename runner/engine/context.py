"""llama.cpp's context: tokens evaluated into it, logits out of it, its state saved and restored."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.crash.flight_recorder import READING, recorder
from franken_gguf.runner.planning.memory_use import N_BATCH

from .backend import EngineError, log
from .interrupt import Stopped
from .loading import Loaded
from .probe import Probe, RouterProbe
from .sampler import Sampler

Routes = dict[int, tuple[int, ...]]
"""Layer to the experts that a token was routed to, the likeliest first."""

_ABORTED = 2  # llama_decode's status


class Context:
    """The tokens of one sequence in a loaded model's memory, and the logits after the last.

    `stop` and `signalled`, once set, end an evaluation early; see Engine.
    """

    def __init__(
        self,
        header: Header,
        loaded: Loaded,
        stop: threading.Event,
        signalled: threading.Event,
        probe: Probe | None = None,
    ) -> None:
        self.header = header
        self.plan, self.buffers, self.vocabulary = loaded.plan, loaded.buffers, loaded.vocabulary
        self.n_ctx = self.plan.cache.n_ctx
        self.stop = stop
        self.evaluated: list[int] = []
        """The tokens in the context, in order."""
        self.recall: Callable[[Sequence[int]], None] = lambda _: None
        """Called before a prompt is evaluated: may bring a kept state into the context."""
        self.reader: object = None
        """Who has evaluated last: another one evaluates its tokens again where they differ."""
        self._signalled = signalled
        self._probe = probe
        self._context, self._params = loaded.context, loaded.params
        self.n_sequences = int(lib.llama_n_seq_max(loaded.context))
        self._memory = lib.llama_get_memory(self._context)
        # A llama_batch only points to its tokens and flags: they must outlive the call.
        self._batch: Any = (lib.llama_token * N_BATCH)()
        self._output_flags: Any = (ctypes.c_int8 * N_BATCH)()
        self._abort = lib.ggml_abort_callback(lambda _: stop.is_set() or signalled.is_set())

    def evaluate(self, tokens: Sequence[int]) -> int:
        """Make the context hold exactly `tokens`, with the logits of the last ready to sample from.

        The longest prefix that is already in the context is reused. Returns the number of tokens
        evaluated. Raises EngineError, or Stopped if `stop` is set.
        """
        reused = 0
        for old, new in zip(self.evaluated, tokens[:-1], strict=False):
            if old != new:
                break
            reused += 1
        self.forget_from(reused)
        reused = len(self.evaluated)
        with recorder.during(READING, str(self.header.path)), self._abortable():
            for start in range(reused, len(tokens), N_BATCH):
                if self.stop.is_set():
                    raise Stopped
                self.decode(tokens[start : start + N_BATCH])
        return len(tokens) - reused

    @contextmanager
    def _abortable(self) -> Iterator[None]:
        # Called at every node of the graph: too often for single tokens, right for a long prompt.
        lib.llama_set_abort_callback(self._context, self._abort, None)
        try:
            yield
        finally:
            lib.llama_set_abort_callback(self._context, lib.ggml_abort_callback(), None)

    def decode(self, tokens: Sequence[int]) -> None:
        """Append up to 512 `tokens` to the context. Raises EngineError."""
        self._decode(tokens)

    def logits(self, tokens: Sequence[int], first: int = 0) -> NDArray[np.float32]:
        """Append up to 512 `tokens` to the context; return the logits after each of tokens[first:].

        The array, (len(tokens) - first, vocabulary), is llama.cpp's own memory and is overwritten
        by the next evaluation. `LoadOptions.n_outputs` limits its rows. Raises EngineError,
        Stopped.
        """
        rows = len(tokens) - first
        assert 0 < rows <= self.plan.cache.n_outputs
        self._output_flags[: len(tokens)] = [0] * first + [1] * rows
        with recorder.during(READING, str(self.header.path)), self._abortable():
            self._decode(tokens, self._output_flags)
        pointer = lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (rows, self.vocabulary.size))

    def _decode(self, tokens: Sequence[int], output_flags: Any = None) -> None:
        """Without `output_flags`, one for each token, only the last token's logits are computed."""
        self._batch[: len(tokens)] = tokens
        batch = lib.llama_batch_get_one(self._batch, len(tokens))
        batch.logits = output_flags
        self._run(batch, tokens)

    def _run(self, batch: Any, tokens: Sequence[int] = ()) -> None:
        """Evaluate a llama_batch, with which the context holds `tokens` more."""
        with signals_held(self._signalled):
            log.clear()
            status = lib.llama_decode(self._context, batch)
            if status == 0:
                self.evaluated += tokens
                if self._probe:
                    self._probe.check()
                return
            # Part of the batch may be in the KV cache already: drop it.
            self.forget_from(len(self.evaluated))
            if status == _ABORTED:
                raise Stopped
            raise EngineError(f"llama.cpp cannot evaluate the prompt: {log.reason()}")

    def sample(self, sampler: Sampler, disallowed: Collection[int] = ()) -> int:
        """The next token after the last one in the context, none of `disallowed`."""
        return sampler.sample(self._context, self.last_logits(), disallowed)

    def last_logits(self) -> NDArray[np.float32]:
        """The logits after the last token, (vocabulary,); overwritten by the next evaluation."""
        pointer = lib.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))

    def forget_from(self, count: int) -> None:
        """Keep the first `count` tokens in the context, or none if its memory cannot be cut."""
        if lib.llama_memory_seq_rm(self._memory, 0, count, -1):
            del self.evaluated[count:]
        else:  # a recurrent model's state cannot be cut
            lib.llama_memory_clear(self._memory, True)
            self.evaluated.clear()

    @property
    def captures_routing(self) -> bool:
        """Whether the probe is a RouterProbe."""
        return isinstance(self._probe, RouterProbe)

    @property
    def experts(self) -> Routes:
        """The experts of the last token in the context; empty without a RouterProbe."""
        chosen = self._probe.chosen if isinstance(self._probe, RouterProbe) else {}
        return {layer: tuple(rows[-1].tolist()) for layer, rows in chosen.items()}

    @property
    def context_kind(self) -> tuple[object, ...]:
        """All settings that a saved state depends on, besides the model."""
        names = ("n_ctx", "type_k", "type_v", "flash_attn_type", "swa_full", "kv_unified")
        used = self.plan.experts_used
        return (
            *(getattr(self._params, name) for name in names),
            *self.plan.cache.rope.flags(),
            *([used] if used else []),
        )

    @signals_held()
    def state(self) -> NDArray[np.uint8]:
        """A copy of the KV cache, whose tokens are `evaluated`, as bytes. Raises EngineError."""
        data = np.empty(self.state_size(), np.uint8)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        log.clear()
        written = lib.llama_state_seq_get_data(self._context, pointer, len(data), 0)
        if written != len(data):
            raise EngineError(f"llama.cpp cannot copy the context: {log.reason()}")
        return data

    def state_size(self) -> int:
        """The size of `state` in bytes."""
        return int(lib.llama_state_seq_get_size(self._context, 0))

    @signals_held()
    def set_state(self, tokens: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Restore what `state` returned for `tokens`. llama.cpp trusts the data: only pass ours.

        Raises EngineError, and then the context is empty.
        """
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        log.clear()
        lib.llama_memory_clear(self._memory, True)
        self.evaluated.clear()
        if not lib.llama_state_seq_set_data(self._context, pointer, len(data), 0):
            lib.llama_memory_clear(self._memory, True)
            raise EngineError(f"llama.cpp cannot restore the context: {log.reason()}")
        self.evaluated += tokens

    @signals_held()
    def save_state(self, path: Path) -> None:
        """Write the context's tokens and KV cache to `path`. Raises EngineError."""
        tokens = (lib.llama_token * len(self.evaluated))(*self.evaluated)
        log.clear()
        written = lib.llama_state_seq_save_file(
            self._context, os.fsencode(path), 0, tokens, len(tokens)
        )
        if not written:
            raise EngineError(f"{path}: llama.cpp cannot write the context: {log.reason()}")

    @signals_held()
    def load_state(self, path: Path) -> None:
        """Restore what `save_state` wrote. llama.cpp trusts the file: load only what is ours.

        Raises EngineError, and then the context is empty.
        """
        tokens, count = (lib.llama_token * self.n_ctx)(), ctypes.c_size_t()
        log.clear()
        is_read = lib.llama_state_seq_load_file(
            self._context, os.fsencode(path), 0, tokens, self.n_ctx, ctypes.byref(count)
        )
        self.evaluated = list(tokens[: count.value]) if is_read else []
        if not is_read:
            lib.llama_memory_clear(self._memory, True)
            raise EngineError(f"{path}: llama.cpp cannot read the context: {log.reason()}")
