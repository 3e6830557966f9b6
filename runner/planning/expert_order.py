"""Which layers' experts to put into RAM: those that a CPU decodes fastest for their bytes. Pure.

The files of --target-size have experts of other types in every layer, and a byte of IQ2_XS takes a
CPU three times as long as one of Q4_K (quantize/blocks/cpu_decode.py). What the experts in RAM save
of a device's memory is their bytes; what they cost is the time to decode them for every token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from franken_gguf.quantize.blocks.cpu_decode import decode_time

from .memory_use import CPU
from .model_shape import ModelShape, Weight
from .placement import Plan

_CLEARLY = 0.9


def fastest_first(shape: ModelShape, on_cpu: int) -> tuple[int, ...]:
    """All layers, those whose experts take a CPU the least time for a byte first.

    The first `on_cpu` layers, of which everything is on the CPU, come before the others. Of layers
    that take the same time the first comes first.
    """
    experts: list[list[Weight]] = [[] for _ in range(shape.n_layer)]
    for weight in shape.weights:
        if weight.projection and weight.layer < shape.n_layer:
            experts[weight.layer].append(weight)

    def byte_time(layer: int) -> float:
        nbytes = sum(weight.nbytes for weight in experts[layer])
        return _decode_time(experts[layer]) / nbytes if nbytes else 0.0

    return tuple(sorted(range(shape.n_layer), key=lambda n: (n >= on_cpu, byte_time(n))))


def is_clearly_faster(shape: ModelShape, plan: Plan, other: Plan) -> bool:
    """Whether a CPU decodes the experts that `plan` has in RAM in a tenth less time than `other`'s.

    Differences below that are those between one CPU and another.
    """
    time, others = (_decode_time(experts_in_ram(shape, one)) for one in (plan, other))
    return time < _CLEARLY * others


def experts_in_ram(shape: ModelShape, plan: Plan) -> list[Weight]:
    """The experts' weights that llama.cpp keeps on the CPU under `plan`."""
    on_cpu = plan.n_layers - plan.n_gpu_layers

    def is_on_cpu(weight: Weight) -> bool:
        for override in plan.overrides:
            if re.search(override.pattern, weight.name):
                return override.device == CPU
        return weight.layer < on_cpu

    return [weight for weight in shape.weights if weight.projection and is_on_cpu(weight)]


def _decode_time(weights: Iterable[Weight]) -> float:
    return sum(decode_time(weight.kind, weight.nbytes) for weight in weights)
