"""The largest file that a machine has room for: the size, the placement and what to expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from franken_gguf.quantize.target_size.target import Fitted, Fitter, Target
from franken_gguf.runner.planning.model_shape import ModelShape
from franken_gguf.runner.planning.placement import Machine, PlacementOptions, Plan
from franken_gguf.runner.planning.planner import plan

_STEP = 1 << 20


@dataclass(frozen=True)
class Fit:
    """A file that fits, and how."""

    target_size: int
    """For --target-size, in bytes."""
    divergence: float
    """Predicted KL divergence from the unquantized model, in nats for a token."""
    plan: Plan
    cpu_moe: bool = False
    """Whether experts have only types that a CPU decodes fast."""


def largest_fits(
    fitter: Fitter,
    shape_of: Callable[[Fitted], ModelShape],
    machine: Machine,
    options: PlacementOptions,
) -> list[Fit]:
    """The largest file with everything on devices, then the largest with experts in RAM too.

    One that does not exist, or is the same, is left out. Sizes are whole MiB. Raises PlanError.
    """
    found: list[Fit] = []
    if machine.devices:
        whole = replace(options, n_gpu_layers=-1, n_cpu_moe=0)
        found += filter(None, [_largest(fitter, shape_of, machine, whole)])
    best = _with_experts_in_ram(fitter, shape_of, machine, options)
    if best and all(best.target_size > other.target_size for other in found):
        found.append(best)
    return found


def _with_experts_in_ram(
    fitter: Fitter,
    shape_of: Callable[[Fitted], ModelShape],
    machine: Machine,
    options: PlacementOptions,
) -> Fit | None:
    """Of types that a CPU decodes fast, if a file of those fits."""
    if fitter.has_experts:
        best = _largest(fitter.with_cpu_moe(), shape_of, machine, options)
        if best:
            return replace(best, cpu_moe=True)
    return _largest(fitter, shape_of, machine, options)


def _largest(
    fitter: Fitter,
    shape_of: Callable[[Fitted], ModelShape],
    machine: Machine,
    options: PlacementOptions,
) -> Fit | None:
    low, high = -(-fitter.least // _STEP), fitter.most // _STEP
    best: Fit | None = None
    while low <= high:
        middle = (low + high) // 2
        fitted = fitter.fit(Target("fit", "fit", middle * _STEP))
        placed = plan(shape_of(fitted), machine, options)
        if placed.fits:
            best, low = Fit(middle * _STEP, fitted.divergence, placed), middle + 1
        else:
            high = middle - 1
    return best
