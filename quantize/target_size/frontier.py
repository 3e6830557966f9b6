"""Size against predicted KL divergence: the presets, and the best types at each preset's size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import PRESETS

from .target import Fitter, Target


@dataclass(frozen=True)
class FrontierPoint:
    """A preset and what its bytes can buy. Divergences are in nats for a token."""

    preset: str
    nbytes: int
    bits_per_weight: float
    of_preset: float
    of_target: float


def frontier(
    fitter: Fitter, source: Source, imatrix: Imatrix | None, overrides: Overrides
) -> list[FrontierPoint]:
    """A point for each quantized preset that suits the model, the smallest first."""
    points = _points(fitter, source, imatrix, overrides)
    return sorted(points, key=lambda point: point.nbytes)


def _points(
    fitter: Fitter, source: Source, imatrix: Imatrix | None, overrides: Overrides
) -> Iterator[FrontierPoint]:
    for preset in PRESETS.values():
        if GGML_QUANT_SIZES[preset.default][0] == 1:
            continue
        try:
            plan = plan_output(
                source, Path(preset.name), preset, overrides, imatrix, allow_requantize=True
            )
            best = fitter.fit(Target(preset.name, preset.name, plan.nbytes))
        except RecipeError:  # a preset for mixtures, or one that needs an imatrix
            continue
        predicted = fitter.predicted(plan)
        if predicted is not None:
            yield FrontierPoint(
                preset.name, plan.nbytes, plan.bits_per_weight, predicted, best.divergence
            )
