"""What to change if a model does not fit, each with the value that makes it fit. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.runner.terminal.text import size

from .memory_use import CPU, REPACKED, Cache
from .model_shape import ModelShape
from .offload_candidates import fitting
from .placement import DEFAULT_PLACEMENT, Machine, PlacementOptions, Plan

_STEP = 256  # tokens of context


def advice(
    shape: ModelShape, machine: Machine, options: PlacementOptions, wished: Plan
) -> Iterator[str]:
    """Changes any one of which makes the plan fit, or that save memory but not enough of it."""
    cache = wished.cache
    fixed = options.n_gpu_layers is not None or options.n_cpu_moe is not None or options.overrides
    if fixed:
        free = fitting(shape, machine, DEFAULT_PLACEMENT, cache)
        if free.fits:
            yield f"without -ngl, --n-cpu-moe and -ot it fits: {' '.join(free.flags)}"
    if options.mmap and REPACKED in wished.used[CPU]:
        read = fitting(shape, machine, replace(options, mmap=None), cache)
        if read.fits:
            yield f"without --mmap it fits: {' '.join(read.flags)}"
    shorter = _longest(shape, machine, options, cache)
    if shorter:
        yield f"a shorter context fits: -c {shorter}"
    small = replace(cache, type_k="q8_0", type_v="q8_0")
    saved = _kv_bytes(shape, cache) - _kv_bytes(shape, small)
    if saved > 0 and shape.head_size % 32 == 0 and cache.flash_attention:
        enough = "" if fitting(shape, machine, options, small).fits else ", which is not enough"
        yield f"an 8-bit KV cache, -ctk q8_0 -ctv q8_0, saves {size(saved)}{enough}"
    yield _smaller_quant(shape, machine, options, cache)


def _longest(shape: ModelShape, machine: Machine, options: PlacementOptions, cache: Cache) -> int:
    """The longest context that fits, in steps of 256 tokens; 0 if none does."""
    low, high = 0, (cache.n_ctx - 1) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        fits = fitting(shape, machine, options, replace(cache, n_ctx=middle * _STEP)).fits
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * _STEP


def _kv_bytes(shape: ModelShape, cache: Cache) -> int:
    return sum(cache.nbytes(keys, values) for keys, values in shape.kv)


def _smaller_quant(
    shape: ModelShape, machine: Machine, options: PlacementOptions, cache: Cache
) -> str:
    bits = 8 * sum(w.nbytes for w in shape.weights if not w.is_tied) / max(1, shape.parameters)
    # Of one size the type that is fastest on a CPU: not one with a grid. Q1_0, TQ and MXFP4 suit
    # only models that were trained for them.
    general = (name for name in FORMATS if not name.startswith(("Q1_0", "TQ", "MXFP4")))
    types = {
        8 * FORMATS[name].block_bytes / FORMATS[name].block_len: name
        for name in sorted(general, key=lambda name: not name.startswith("IQ"))
    }
    for smaller in sorted((b for b in types if b < bits), reverse=True):
        scaled = tuple(
            replace(weight, nbytes=int(weight.nbytes * smaller / bits)) for weight in shape.weights
        )
        if fitting(replace(shape, weights=scaled), machine, options, cache).fits:
            return (
                f"a smaller quant fits: {types[smaller]}, {smaller:.2f} bits per weight "
                f"(this file: {bits:.2f})"
            )
    return f"no smaller quant fits either (this file: {bits:.2f} bits per weight)"
