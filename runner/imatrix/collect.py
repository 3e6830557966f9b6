"""Runs a model over chunks of tokens and adds up the inputs of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.loading import DEFAULTS, LoadOptions
from franken_gguf.runner.engine.matmul_inputs import MatmulInputs
from franken_gguf.runner.planning.memory_use import N_BATCH

from .sums import BatchSums


class Collector:
    """A loaded model that turns each chunk of tokens into sums; see `open_collector`."""

    def __init__(self, engine: Engine, probe: MatmulInputs) -> None:
        self.engine = engine
        self._probe = probe

    def chunk_sums(self, tokens: Sequence[int]) -> dict[str, WeightSums]:
        """The sums over one chunk, which starts an empty context. Raises EngineError, Stopped."""
        self.engine.forget_from(0)
        total: dict[str, WeightSums] = {}
        for start in range(0, len(tokens), N_BATCH):
            sums = BatchSums()
            self._probe.begin(sums.add)
            # The last layer computes only the tokens whose logits are requested.
            self.engine.logits(tokens[start : start + N_BATCH])
            add(total, sums.weights)
        return total


@contextmanager
def open_collector(
    header: Header,
    chunk_size: int,
    options: LoadOptions = DEFAULTS,
    *,
    with_output: bool = False,
) -> Iterator[Collector]:
    """Load a model for chunks of `chunk_size` tokens. Raises EngineError, PlanError."""
    probe = MatmulInputs(with_output=with_output)
    options = replace(options, n_ctx=chunk_size, n_outputs=min(chunk_size, N_BATCH))
    with Engine(header, options, probe=probe) as engine:
        yield Collector(engine, probe)


def collect_imatrix(
    collector: Collector,
    chunks: Iterable[Sequence[int]],
    report: Callable[[int], None] = lambda _: None,
) -> dict[str, WeightSums]:
    """The sums over all `chunks`; `report` is called with the number of those that are done."""
    total: dict[str, WeightSums] = {}
    for done, chunk in enumerate(chunks, 1):
        add(total, collector.chunk_sums(chunk))
        report(done)
    return total


def add(total: dict[str, WeightSums], chunk: dict[str, WeightSums]) -> None:
    """Add the sums of one chunk to those before it."""
    for name, weight in chunk.items():
        total[name] = total[name] + weight if name in total else weight
