"""Chooses, type by type, what quantizes: --kernels auto, numpy or ggml."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from franken_gguf.quantize.blocks.formats import NUMPY, Kernels, Step, TunedQuantize
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.cpu_check import check
from franken_gguf.runner.engine.ggml_quantize import GgmlQuantize, quantize_library

from .kernel_speeds import Speeds, speeds

MODES = ("auto", "numpy", "ggml")
_WORTH_IT = 0.9
"""ggml must need less than this share of our time: a measurement is off by a few percent."""
_EXACT = ("x86_64", "amd64")
"""Elsewhere compilers may round a product and a sum at once, so rare blocks differ."""


def choose_kernels(mode: str, weights: Mapping[Step, int], workers: int) -> Kernels:
    """What to use instead of numpy, for `weights` weights of each step on `workers` processes.

    "auto" takes ggml's function where the same bytes come sooner, its start included, and else
    ours with what suits this machine. Raises EngineError if "ggml" is asked for and cannot be had.
    """
    if mode == "numpy":
        return NUMPY
    if mode == "auto" and platform.machine().lower() not in _EXACT:
        return NUMPY
    try:
        library = quantize_library()
        if not check().can_run:
            raise EngineError(
                "the installed llama.cpp does not run on this CPU ('franken-gguf doctor' shows how "
                "to fix it); use --kernels numpy"
            )
    except EngineError:
        if mode == "ggml":
            raise
        return NUMPY
    if mode == "ggml":
        return {step: GgmlQuantize(step.format, library) for step in weights}
    measured = speeds(weights, library)
    return {
        step: GgmlQuantize(step.format, library)
        if is_ggml_faster(measured[step], count / workers)
        else TunedQuantize(step.format, measured[step].tuning)
        for step, count in weights.items()
    }


def is_ggml_faster(measured: Speeds, weights: float) -> bool:
    """Whether ggml needs clearly less time for `weights` weights in one process. Pure."""
    theirs = measured.ggml_start + weights * measured.ggml
    return measured.equal and theirs < _WORTH_IT * weights * measured.numpy
