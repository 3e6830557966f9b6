"""Runs a model over chunks of tokens and adds up the inputs of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.loading import DEFAULTS, LoadOptions
from franken_gguf.runner.engine.matmul_inputs import MatmulInput, MatmulInputs
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.planning.placement import Machine

from .input_moments import InputMoments
from .passed_over import AllExpertSums, ExpertWeights
from .sums import BatchSums, added


class Collector:
    """A loaded model that turns each chunk of tokens into sums; see `open_collector`."""

    def __init__(
        self,
        engine: Engine,
        probe: MatmulInputs,
        experts: ExpertWeights | None,
        moments: InputMoments | None,
    ) -> None:
        self.engine = engine
        self.moments = moments
        """Second moments of all chunks, if they were asked for."""
        self._probe = probe
        self._experts = experts
        self._is_first = True

    def chunk_sums(self, tokens: Sequence[int]) -> dict[str, WeightSums]:
        """The sums over one chunk, which starts an empty context. Raises EngineError, Stopped."""
        self.engine.forget_from(0)
        total: dict[str, WeightSums] = {}
        for start in range(0, len(tokens), N_BATCH):
            sums = self._empty_sums()
            self._probe.begin(partial(self._add, sums))
            # The last layer computes only the tokens whose logits are requested.
            self.engine.logits(tokens[start : start + N_BATCH])
            total = added(total, sums.weights)
            self._is_first = False
        return total

    def _add(self, sums: BatchSums, entry: MatmulInput) -> None:
        sums.add(entry)
        if self.moments:
            self.moments.add(entry)

    def _empty_sums(self) -> BatchSums:
        if self._experts:
            return AllExpertSums(self._experts, checks=self._is_first)
        return BatchSums()


@contextmanager
def open_collector(
    header: Header,
    chunk_size: int,
    options: LoadOptions = DEFAULTS,
    *,
    machine: Machine | None = None,
    on_notice: Callable[[str], None] = lambda _: None,
    with_output: bool = False,
    all_experts: bool = False,
    second_moments: bool = False,
) -> Iterator[Collector]:
    """Load a model for chunks of `chunk_size` tokens.

    `with_output` adds the output's weight to the layers'; `all_experts` gives every token to every
    expert beside the graph, see passed_over.py; `second_moments` are added up as well. Raises
    EngineError, PlanError.
    """
    experts = ExpertWeights(header) if all_experts else None
    probe = MatmulInputs(with_output=with_output)
    options = replace(options, n_ctx=chunk_size, n_outputs=min(chunk_size, N_BATCH))
    with Engine(header, options, machine=machine, on_notice=on_notice, probe=probe) as engine:
        yield Collector(engine, probe, experts, InputMoments() if second_moments else None)
