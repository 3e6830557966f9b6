"""How fast a CPU decodes each type: which ones not to give to experts that stay in RAM. Pure.

While a model writes, every weight of the experts chosen is read once for a token. Of K-quants a CPU
multiplies them about as fast as RAM delivers them; points of a grid have to be looked up.
"""

from __future__ import annotations

from collections.abc import Mapping

from .formats import FORMATS

DECODE_SPEED: Mapping[str, float] = {
    "Q8_0": 0.61,
    "Q6_K": 0.99,
    "Q5_K": 0.97,
    "Q4_K": 1.00,
    "Q3_K": 1.09,
    "Q2_K": 1.52,
    "Q5_1": 0.48,
    "Q5_0": 0.59,
    "Q4_1": 0.56,
    "Q4_0": 0.75,
    "IQ4_NL": 0.68,
    "IQ4_XS": 1.03,
    "IQ3_S": 0.42,
    "IQ3_XXS": 0.46,
    "IQ2_S": 0.63,
    "IQ2_XS": 0.64,
    "IQ2_XXS": 0.59,
    "IQ1_M": 0.59,
    "IQ1_S": 0.60,
}
"""Weights decoded in a second of one processor, relative to Q4_K: benchmarks/decode_types.py on an
AMD EPYC (Zen 4, AVX-512), one thread, not repacked, llama.cpp of llama-cpp-python 0.3.36."""
_CLEARLY = 0.8


def slow_types(speeds: Mapping[str, float]) -> frozenset[str]:
    """The types that decode clearly slower than the smallest K-quant that is as large or larger."""
    sizes = {name: FORMATS[name].block_bytes / FORMATS[name].block_len for name in speeds}
    k_quants = [name for name in speeds if name.endswith("_K")]

    def is_slow(name: str) -> bool:
        larger = [other for other in k_quants if sizes[other] >= sizes[name]]
        nearest = min(larger, key=lambda other: sizes[other], default=name)
        return speeds[name] < _CLEARLY * speeds[nearest]

    return frozenset(name for name in speeds if is_slow(name))


SLOW_ON_CPU = slow_types(DECODE_SPEED)

_BYTE_TIME = {
    name: FORMATS[name].block_len / FORMATS[name].block_bytes / speed
    for name, speed in DECODE_SPEED.items()
}


def decode_time(kind: str, nbytes: int) -> float:
    """Time of one processor for `nbytes` of a type, in that of a weight in Q4_K.

    A type that was not measured, such as F16, takes as long for a byte as Q8_0.
    """
    return nbytes * _BYTE_TIME.get(kind, _BYTE_TIME["Q8_0"])
