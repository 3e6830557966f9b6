"""A loaded model with its context, and answers from it; knows nothing of chats or templates."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.crash.flight_recorder import LOADING, READING, recorder
from franken_gguf.runner.crash.watcher import watch
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.planning.placement import Machine
from franken_gguf.runner.sampling.settings import Sampling

from .backend import EngineError, log
from .generation import Generation, Routes
from .interrupt import Stopped
from .loading import DEFAULTS, LoadOptions, load
from .probe import Probe, RouterProbe
from .sampler import Sampler

__all__ = ["Engine", "Generation", "LoadOptions"]


class Engine:
    """A loaded model and its context. Close it, or use it in a `with` statement.

    It goes where the plan for `machine`, by default this one, says; where a device has less memory
    than it said, by the next smaller plan. `plan` is the one that was followed, `buffers` what
    llama.cpp took for it. `stop`, once set, ends a load or an evaluation soon, and a Generation
    after its current token. `on_progress` is called while loading with what part is done, 0 to 1,
    `on_notice` with a line for the user. `probe` hears every evaluation. A signal whose handler
    raises does too, once llama.cpp has returned. Raises EngineError, PlanError, Stopped.
    """

    def __init__(
        self,
        header: Header,
        options: LoadOptions = DEFAULTS,
        *,
        machine: Machine | None = None,
        stop: threading.Event | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
        on_notice: Callable[[str], None] = lambda _: None,
        probe: Probe | None = None,
    ) -> None:
        watch()
        self.header = header
        self._probe = probe
        self.stop = threading.Event() if stop is None else stop
        self.evaluated: list[int] = []
        """The tokens in the context, in their order."""
        self._signalled = threading.Event()
        with ExitStack() as resources:
            with recorder.during(LOADING, str(header.path)), signals_held(self._signalled):
                loaded = resources.enter_context(
                    load(header, options, machine, self._is_stopped, on_progress, on_notice, probe)
                )
            self._resources = resources.pop_all()
        self.plan, self.buffers, self.vocabulary = loaded.plan, loaded.buffers, loaded.vocabulary
        self.n_ctx = self.plan.cache.n_ctx
        self._context, self._context_params = loaded.context, loaded.params
        self._memory = lib.llama_get_memory(self._context)
        # A llama_batch points to its tokens and does not keep them alive: they live here.
        self._batch: Any = (lib.llama_token * N_BATCH)()
        self._wanted: Any = (ctypes.c_int8 * N_BATCH)()
        self._abort = lib.ggml_abort_callback(lambda _: self._is_stopped())
        self._made: Sampler | None = None

    def _is_stopped(self) -> bool:
        return self.stop.is_set() or self._signalled.is_set()

    @signals_held()
    def close(self) -> None:
        """Free the context and the model."""
        if self._made:
            self._made.close()
            self._made = None
        self._resources.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        max_tokens: int | None = None,
        *,
        can_rewind: bool = False,
        records: bool = False,
    ) -> Generation:
        """An answer to `prompt`, token by token; only what differs from before is evaluated.

        With `can_rewind` the answer may be rewound; with `records` the probabilities of its tokens
        are kept and, if a RouterProbe is attached, the experts they went to. Raises EngineError if
        the prompt leaves no room in the context, SamplingError for an invalid grammar.
        """
        if not prompt:
            raise EngineError("there is nothing to answer: the prompt is empty")
        if len(prompt) >= self.n_ctx:
            raise EngineError(
                f"the prompt is {len(prompt)} tokens, the context {self.n_ctx}; "
                "shorten it, or give more context with -c"
            )
        sampler = self._sampler(sampling)
        sampler.see(prompt)
        return Generation(self, list(prompt), sampler, max_tokens, can_rewind, records)

    def evaluate(self, tokens: Sequence[int]) -> int:
        """Bring the context to `tokens`; the logits of the last are then there to sample from.

        The longest common start of what is in the context stays. Gives the number of tokens that
        were evaluated. Raises EngineError, Stopped when `stop` was set.
        """
        kept = 0
        for old, new in zip(self.evaluated, tokens[:-1], strict=False):
            if old != new:
                break
            kept += 1
        self.forget_from(kept)
        kept = len(self.evaluated)
        with recorder.during(READING, str(self.header.path)), self._stopping():
            for start in range(kept, len(tokens), N_BATCH):
                if self.stop.is_set():
                    raise Stopped
                self.decode(tokens[start : start + N_BATCH])
        return len(tokens) - kept

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        # Called at every node of the graph: too often for single tokens, right for a long prompt.
        lib.llama_set_abort_callback(self._context, self._abort, None)
        try:
            yield
        finally:
            lib.llama_set_abort_callback(self._context, lib.ggml_abort_callback(), None)

    def decode(self, tokens: Sequence[int]) -> None:
        """Add up to 512 `tokens` to the context. Raises EngineError."""
        self._decode(tokens)

    def logits(self, tokens: Sequence[int], first: int = 0) -> NDArray[np.float32]:
        """Add up to 512 `tokens` to the context; the logits after each of `tokens[first:]`.

        The array, (len(tokens) - first, vocabulary), is llama.cpp's own memory and good until the
        next evaluation. `LoadOptions.n_outputs` says how many rows there may be. Raises
        EngineError, Stopped.
        """
        rows = len(tokens) - first
        assert 0 < rows <= self.plan.cache.n_outputs
        self._wanted[: len(tokens)] = [0] * first + [1] * rows
        with recorder.during(READING, str(self.header.path)), self._stopping():
            self._decode(tokens, self._wanted)
        pointer = lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (rows, self.vocabulary.size))

    def _decode(self, tokens: Sequence[int], wanted: Any = None) -> None:
        """Without `wanted`, a flag for each token, llama.cpp computes the last one's logits."""
        with signals_held(self._signalled):
            self._batch[: len(tokens)] = tokens
            log.clear()
            batch = lib.llama_batch_get_one(self._batch, len(tokens))
            batch.logits = wanted
            status = lib.llama_decode(self._context, batch)
            if status == 0:
                self.evaluated += tokens
                if self._probe:
                    self._probe.check()
                return
            # A part of the batch may be in the context's memory: back to what is known.
            self.forget_from(len(self.evaluated))
            if status == _ABORTED:
                raise Stopped
            raise EngineError(f"llama.cpp cannot evaluate the prompt: {log.reason()}")

    def check(self, sampling: Sampling) -> None:
        """Raise SamplingError for what this model cannot draw by: a grammar that is none."""
        self._sampler(sampling).close()

    @signals_held()
    def _sampler(self, sampling: Sampling) -> Sampler:
        """A new one. The last is kept: DRY looks through the whole vocabulary at its start."""
        sampling = sampling.in_context(self.n_ctx)
        if self._made is None or self._made.sampling != sampling:
            made = Sampler(sampling, self.vocabulary.handle, self.vocabulary.size)
            if self._made:
                self._made.close()
            self._made = made
        sampler = self._made.copy()
        sampler.reset()
        return sampler

    def sample(self, sampler: Sampler, disallowed: Collection[int] = ()) -> int:
        """The next token after the last one in the context, none of `disallowed`."""
        return sampler.sample(self._context, self.last_logits(), disallowed)

    def last_logits(self) -> NDArray[np.float32]:
        """Those after the last token, (vocabulary,): llama.cpp's memory until the next token."""
        pointer = lib.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))

    @property
    def captures_routing(self) -> bool:
        """Whether a probe hears the routers."""
        return isinstance(self._probe, RouterProbe)

    @property
    def experts(self) -> Routes:
        """By layer, the experts of the last token in the context, if a RouterProbe is attached."""
        chosen = self._probe.chosen if isinstance(self._probe, RouterProbe) else {}
        return {layer: tuple(rows[-1].tolist()) for layer, rows in chosen.items()}

    @property
    def context_kind(self) -> tuple[object, ...]:
        """All settings that a saved context depends on, besides the model."""
        params = self._context_params
        names = ("n_ctx", "type_k", "type_v", "flash_attn_type", "swa_full", "kv_unified")
        return tuple(getattr(params, name) for name in names)

    @signals_held()
    def save_state(self, path: Path) -> None:
        """Write what the context holds to `path`. Raises EngineError."""
        tokens = (lib.llama_token * len(self.evaluated))(*self.evaluated)
        name = os.fsencode(path)
        log.clear()
        if not lib.llama_state_seq_save_file(self._context, name, 0, tokens, len(tokens)):
            raise EngineError(f"{path}: llama.cpp cannot write the context: {log.reason()}")

    @signals_held()
    def load_state(self, path: Path) -> None:
        """Bring the context to what `save_state` wrote, which the caller vouches for.

        Raises EngineError, and then the context is empty.
        """
        tokens, count = (lib.llama_token * self.n_ctx)(), ctypes.c_size_t()
        log.clear()
        done = lib.llama_state_seq_load_file(
            self._context, os.fsencode(path), 0, tokens, self.n_ctx, ctypes.byref(count)
        )
        self.evaluated = list(tokens[: count.value]) if done else []
        if not done:
            lib.llama_memory_clear(self._memory, True)
            raise EngineError(f"{path}: llama.cpp cannot read the context: {log.reason()}")

    def forget_from(self, count: int) -> None:
        """Keep only the first `count` tokens in the context, or none where it cannot be cut."""
        if lib.llama_memory_seq_rm(self._memory, 0, count, -1):
            del self.evaluated[count:]
        else:  # a recurrent model's state cannot be cut
            lib.llama_memory_clear(self._memory, True)
            self.evaluated.clear()


_ABORTED = 2  # llama_decode's status
