"""A loaded model that answers prompts; knows nothing of chats or templates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.crash.flight_recorder import LOADING, recorder
from franken_gguf.runner.crash.watcher import watch
from franken_gguf.runner.planning.placement import Machine
from franken_gguf.runner.sampling.settings import Sampling

from .backend import EngineError
from .generation import Generation
from .grammar import free_sampler, grammar_sampler
from .loading import DEFAULTS, LoadOptions, load
from .probe import Probe
from .sampler import Sampler
from .sequences import Drawn, Sequences

__all__ = ["Engine", "Generation", "LoadOptions"]


class Engine(Sequences):
    """A loaded model and its context. Close it, or use it in a `with` statement.

    The model is placed by the plan for `machine`, by default this one; if a device turns out to
    have less memory than it reported, by the next smaller plan. `plan` is the plan that was
    followed, `buffers` the memory that llama.cpp took. Setting `stop` ends a load or an evaluation
    soon, and a Generation after its current token. While loading, `on_progress` is called with the
    fraction that is done, `on_notice` with a line for the user. `probe` captures tensors of every
    evaluation. An exception raised by a signal handler is raised here once llama.cpp has returned.
    Raises EngineError, PlanError, Stopped.
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
        stop = threading.Event() if stop is None else stop
        signalled = threading.Event()

        def is_stopped() -> bool:
            return stop.is_set() or signalled.is_set()

        with ExitStack() as resources:
            with recorder.during(LOADING, str(header.path)), signals_held(signalled):
                loaded = resources.enter_context(
                    load(header, options, machine, is_stopped, on_progress, on_notice, probe)
                )
            super().__init__(header, loaded, stop, signalled, probe)
            self._resources = resources.pop_all()
        self._last_sampler: Sampler | None = None
        self.clear()

    @signals_held()
    def close(self) -> None:
        """Free the context and the model."""
        if self._last_sampler:
            self._last_sampler.close()
            self._last_sampler = None
        self._resources.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        max_tokens: int | None = None,
        *,
        can_rewind: bool = False,
        records: bool = False,
        alternatives: int | None = None,
    ) -> Generation:
        """An answer to `prompt`, token by token; a prefix that is in the context is reused.

        With `can_rewind` tokens of the answer can be removed again. With `records` the Generation
        keeps each token's probabilities and, if a RouterProbe is attached, its experts;
        `alternatives` is how many other tokens' probabilities to keep, by default those near the
        likeliest. Raises EngineError if the prompt does not fit into the context, SamplingError
        for an invalid grammar.
        """
        if not prompt:
            raise EngineError("the prompt is empty; give at least one token")
        if len(prompt) >= self.n_ctx:
            raise EngineError(
                f"the prompt is {len(prompt)} tokens, the context {self.n_ctx}; "
                "shorten it, or raise -c"
            )
        sampler = self._sampler(sampling)
        sampler.see(prompt)
        return Generation(
            self, list(prompt), sampler, max_tokens, can_rewind, records, alternatives
        )

    def draw(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], max_tokens: int
    ) -> list[Drawn]:
        """An answer to each of up to `n_sequences` prompts, with its own sampling, side by side.

        They stay in the context for `score`. Raises EngineError, SamplingError, Stopped.
        """
        samplers: list[Sampler] = []
        try:
            for prompt, sampling in zip(prompts, samplings, strict=True):
                samplers.append(self._sampler(sampling))
                samplers[-1].see(prompt)
            return self.draw_beside(prompts, samplers, max_tokens)
        finally:
            for sampler in samplers:
                sampler.close()

    def check(self, sampling: Sampling) -> None:
        """Raise SamplingError if this model cannot use these settings: an invalid grammar."""
        self._sampler(sampling).close()

    def check_grammar(self, sampling: Sampling) -> None:
        """Raise SamplingError for an invalid grammar. May be called in any thread."""
        if sampling.grammar:
            free_sampler(grammar_sampler(self.vocabulary.handle, sampling.grammar))

    @signals_held()
    def _sampler(self, sampling: Sampling) -> Sampler:
        """A fresh copy; the original is reused, as DRY scans the whole vocabulary to start."""
        sampling = sampling.in_context(self.n_ctx)
        if self._last_sampler is None or self._last_sampler.sampling != sampling:
            sampler = Sampler(sampling, self.vocabulary.handle, self.vocabulary.size)
            if self._last_sampler:
                self._last_sampler.close()
            self._last_sampler = sampler
        copy = self._last_sampler.copy()
        copy.reset()
        return copy
