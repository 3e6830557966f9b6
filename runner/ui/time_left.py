"""The time that a conversion still needs, from what each kind of work has cost so far. Pure.

Types differ by a factor of hundreds in what a weight costs, and a file has them in no even order:
token embeddings come first, experts make up most of the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from franken_gguf.quantize.blocks.formats import Step
from franken_gguf.quantize.blocks.point_planes import POINT_LAYOUTS
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.output.output import Output, PlannedTensor

_WINDOW = 20.0
"""Seconds of which the speed is the average."""
_A_JOB = 0.002
"""Seconds that a job takes whatever its size."""
_READ_AND_WRITE = 0.5
_PLAIN = {
    "Q8_0": 1.1, "Q4_0": 1.0, "Q4_1": 1.0, "Q5_0": 1.2, "Q5_1": 1.2,
    "Q2_K": 30, "Q3_K": 9, "Q4_K": 35, "Q5_K": 29, "Q6_K": 18, "IQ4_NL": 86, "IQ4_XS": 79,
    "IQ3_S": 510, "IQ2_S": 385, "TQ1_0": 4.4, "TQ2_0": 3.1, "MXFP4": 6.2,
}  # fmt: skip
_WEIGHTED = {
    "Q4_0": 22, "Q4_1": 65, "Q5_0": 24, "Q5_1": 65,
    "Q2_K": 76, "Q3_K": 26, "Q4_K": 65, "Q5_K": 66, "Q6_K": 20, "IQ4_NL": 83, "IQ4_XS": 81,
    "IQ1_S": 233, "IQ1_M": 289, "IQ2_XXS": 472, "IQ2_XS": 709, "IQ3_XXS": 775,
}  # fmt: skip
"""Nanoseconds that a weight takes in one worker (docs/log/blocks.md): only how they compare counts,
and only until a type's own time is known. Without an importance matrix, and with one where that
takes longer; types that neither lists are copied or converted at the speed of memory."""

_REFINED, _REFINED_POINTS = 170, 450
"""Nanoseconds for codes chosen under second moments, one by one and as points of a grid."""

Kind = tuple[str, frozenset[Step], frozenset[str]]
"""The type in the source, what it is quantized to, and the types whose codes are chosen."""


@dataclass(frozen=True)
class _Finished:
    when: float
    kind: Kind
    weights: int


class TimeLeft:
    """Counts finished jobs, which must come in order. An earlier run's work counts as done."""

    def __init__(self, source: Source, outputs: Sequence[Output]) -> None:
        self._sizes = [tensor.rows * tensor.cols for tensor in source.tensors]
        self._kinds = [
            _kind(tensor.stored.name, [output.tensors[index] for output in outputs])
            for index, tensor in enumerate(source.tensors)
        ]
        self._index = self._done = 0
        self._seconds: defaultdict[Kind, float] = defaultdict(float)
        self._weights: Counter[Kind] = Counter()
        self._expected = 0.0
        self._recent: deque[_Finished] = deque()
        self._since = 0.0

    def add(self, index: int, done: int, weights: int, seconds: float, now: float) -> None:
        """Count a job of `weights` weights, on which a worker spent `seconds`.

        With it, the first `done` weights of tensor `index` are converted.
        """
        kind = self._kinds[index]
        self._index, self._done = index, done
        self._weights[kind] += weights
        self._seconds[kind] += seconds
        self._expected += _A_JOB + _expected(kind) * weights
        if not self._recent:
            self._since = now - seconds
        self._recent.append(_Finished(now, kind, weights))
        while len(self._recent) > 1 and self._recent[0].when < now - _WINDOW:
            self._since = self._recent.popleft().when

    @property
    def seconds(self) -> float | None:
        """Until the end, at the speed of the last 20 seconds; None before there is one."""
        if not self._recent:
            return None
        elapsed = self._recent[-1].when - self._since
        done = sum(self._cost(job.kind) * job.weights for job in self._recent)
        left = sum(self._cost(kind) * weights for kind, weights in self._left().items())
        return left * elapsed / done if elapsed > 0 and done > 0 else None

    def _left(self) -> Counter[Kind]:
        """The weights still to convert."""
        left: Counter[Kind] = Counter()
        for kind, weights in zip(
            self._kinds[self._index :], self._sizes[self._index :], strict=True
        ):
            left[kind] += weights
        left[self._kinds[self._index]] -= self._done
        return left

    def _cost(self, kind: Kind) -> float:
        """Seconds of a worker for a weight: its own so far, or as its types compare with others."""
        if self._weights[kind]:
            return self._seconds[kind] / self._weights[kind]
        return _expected(kind) * sum(self._seconds.values()) / self._expected


def _kind(stored: str, targets: Sequence[PlannedTensor]) -> Kind:
    steps = frozenset(
        Step(target.choice.type.name, target.importance is not None)
        for target in targets
        if target.choice.type.name != stored
    )
    refined = frozenset(target.choice.type.name for target in targets if target.moments)
    return stored, steps, refined


def _expected(kind: Kind) -> float:
    """Seconds for a weight, by the table."""
    _, steps, refined = kind
    choice = sum(_REFINED_POINTS if name in POINT_LAYOUTS else _REFINED for name in refined)
    return 1e-9 * (_READ_AND_WRITE + sum(map(_nanoseconds, steps)) + choice)


def _nanoseconds(step: Step) -> float:
    plain = _PLAIN.get(step.format, 0.0)
    return max(_WEIGHTED.get(step.format, plain), plain) if step.weighted else plain
