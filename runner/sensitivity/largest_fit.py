"""The largest file that a machine has room for: the size, the placement and what to expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from franken_gguf.quantize.target_size.target import Fitted, Fitter, Target
from franken_gguf.runner.planning.expert_order import experts_in_ram
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
    n_cpu_moe: int
    """For --n-cpu-moe: the first layers, whose experts have only types that a CPU decodes fast."""

    @property
    def cpu_moe(self) -> bool:
        """Whether any experts have only such types."""
        return self.n_cpu_moe > 0


def largest_fits(
    fitter: Fitter,
    shape_of: Callable[[Fitted], ModelShape],
    machine: Machine,
    options: PlacementOptions,
) -> list[Fit]:
    """The largest file with everything on devices, then the best with experts in RAM too.

    One that does not exist, or is no larger, is left out. Sizes are whole MiB. Raises PlanError.
    """
    found: list[Fit] = []
    if machine.devices:
        whole = replace(options, n_gpu_layers=-1, n_cpu_moe=0)
        found += filter(None, [_Search(fitter, shape_of, machine, whole).largest(0)])
    best = _Search(fitter, shape_of, machine, options).with_experts_in_ram()
    if best and all(best.target_size > other.target_size for other in found):
        found.append(best)
    return found


@dataclass(frozen=True)
class _Search:
    """What all files of one search share."""

    fitter: Fitter
    shape_of: Callable[[Fitted], ModelShape]
    machine: Machine
    options: PlacementOptions

    def with_experts_in_ram(self) -> Fit | None:
        """Of types that a CPU decodes fast, if a file with those for all experts fits.

        Only experts in RAM need them, and which those are depends on the types of all. So the
        layers that have experts in RAM in that file are counted, and as many of the first get such
        types, or more while the new file has experts of further layers in RAM. The better of the
        two files is returned.
        """
        every = self.fitter.expert_layers
        first = self.largest(every)
        if first is None:
            return self.largest(0)
        n_cpu_moe = len(self._layers_in_ram(first))
        while n_cpu_moe < every and (fit := self.largest(n_cpu_moe)):
            needed = 1 + max(self._layers_in_ram(fit), default=-1)
            if needed <= n_cpu_moe:
                return min(first, fit, key=lambda one: one.divergence)
            n_cpu_moe = needed
        return first

    def _layers_in_ram(self, fit: Fit) -> set[int]:
        """The layers that have experts in RAM."""
        fitter = self.fitter.with_n_cpu_moe(fit.n_cpu_moe)
        shape = self.shape_of(fitter.fit(_target(fit.target_size)))
        return {weight.layer for weight in experts_in_ram(shape, fit.plan)}

    def largest(self, n_cpu_moe: int) -> Fit | None:
        """The largest file where the experts of the first `n_cpu_moe` layers have such types."""
        fitter = self.fitter.with_n_cpu_moe(n_cpu_moe)
        low, high = -(-fitter.least // _STEP), fitter.most // _STEP
        best: Fit | None = None
        while low <= high:
            middle = (low + high) // 2
            fitted = fitter.fit(_target(middle * _STEP))
            placed = plan(self.shape_of(fitted), self.machine, self.options)
            if placed.fits:
                best = Fit(middle * _STEP, fitted.divergence, placed, n_cpu_moe)
                low = middle + 1
            else:
                high = middle - 1
        return best


def _target(nbytes: int) -> Target:
    return Target("fit", "fit", nbytes)
