"""The best types for a file of at most a given size, as a preset with overrides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.second_moments import SecondMoments
from franken_gguf.quantize.tensor_types.type_allocation import Option, allocate, smallest
from franken_gguf.quantize.tensor_types.type_choice import Overrides, layer_of
from franken_gguf.quantize.tensor_types.type_presets import Preset, Type, find_preset

from .measurements import Measurements
from .type_lines import type_lines
from .type_menus import can_choose, is_expert, menus, possible_types, tensor_bytes

_ANY = find_preset("Q4_0")
"""Decides only what the file's metadata look like; codes of this type can be chosen."""


@dataclass(frozen=True)
class Target:
    """A size asked for."""

    name: str
    """What the file is called by, as in MODEL-4.25bpw.gguf."""
    option: str
    """How it was asked for, for errors."""
    nbytes: int
    """The largest size of the file, its header included."""


@dataclass(frozen=True)
class Fitted:
    """The types chosen for a target."""

    preset: Preset
    overrides: Overrides
    divergence: float
    """Predicted KL divergence from the unquantized model, in nats for a token."""

    @property
    def options(self) -> list[str]:
        """The values of --tensor-type, of llama-quantize too."""
        return [f"{pattern}={kind.name}" for pattern, kind in self.overrides.tensor_types]


class Fitter:
    """Chooses types for one source by what was measured of it.

    `overrides` are the user's: tensors whose types they decide keep them. The experts of the first
    `n_cpu_moe` layers get only types that a CPU decodes fast. The keys for `second_moments` count
    in a file's size.
    """

    def __init__(
        self,
        source: Source,
        imatrix: Imatrix | None,
        overrides: Overrides,
        measured: Measurements,
        *,
        n_cpu_moe: int = 0,
        second_moments: SecondMoments | None = None,
    ) -> None:
        self._source, self._imatrix, self._measured = source, imatrix, measured
        self._overrides, self._second_moments = overrides, second_moments
        self._tensors = free_tensors(source, overrides)
        self._menus = menus(self._tensors, measured, n_cpu_moe=n_cpu_moe)
        self._others = _bytes_without(self._tensors, source, imatrix, overrides, second_moments)

    @property
    def expert_layers(self) -> int:
        """The `n_cpu_moe` that includes all experts whose types are chosen; 0 if there are none."""
        return 1 + max((layer_of(t.name) for t in self._tensors if is_expert(t)), default=-1)

    def with_n_cpu_moe(self, n_cpu_moe: int) -> Fitter:
        """The same where the experts of the first `n_cpu_moe` layers stay in RAM."""
        return Fitter(
            *(self._source, self._imatrix, self._overrides, self._measured),
            n_cpu_moe=n_cpu_moe,
            second_moments=self._second_moments,
        )

    @property
    def least(self) -> int:
        """Bytes of the smallest file that there is."""
        return self._others + smallest(self._menus)

    @property
    def most(self) -> int:
        """Bytes of the file with every tensor as near to the source as it gets."""
        return self._others + sum(max(o.nbytes for o in menu) for menu in self._menus)

    def fit(self, target: Target) -> Fitted:
        """The types with the least KL divergence. Raises RecipeError if no file is that small."""
        _refuse_less(target, self.least)
        if target.nbytes > self.most:
            raise RecipeError(
                f"{target.option}: is above the unquantized model's {self.most:,} bytes "
                f"({self.most / 2**20:,.1f} MiB); use -q F16 for that"
            )
        choice = allocate(self._menus, target.nbytes - self._others)
        types = {
            tensor.name: option.type for tensor, option in zip(self._tensors, choice, strict=True)
        }
        base = _base_preset(self._tensors, choice)
        lines = (*self._overrides.tensor_types, *type_lines(types))
        return Fitted(
            Preset(target.name, base.file_type, base.default, like=base.name),
            replace(self._overrides, tensor_types=lines),
            sum(option.cost for option in choice),
        )

    def predicted(self, output: Output) -> float | None:
        """The KL divergence of a planned file; None if it has types that were not measured."""
        types = {tensor.source.name: tensor.choice.type for tensor in output.tensors}
        total = 0.0
        for tensor, menu in zip(self._tensors, self._menus, strict=True):
            costs = [option.cost for option in menu if option.type is types[tensor.name]]
            if not costs:
                return None
            total += costs[0]
        return total


def refuse_too_small(
    targets: Sequence[Target],
    source: Source,
    imatrix: Imatrix | None,
    overrides: Overrides,
    weighted: Collection[str],
    second_moments: SecondMoments | None = None,
) -> None:
    """Raise RecipeError for a target that no types can reach, before anything is measured.

    `weighted` names the tensors for which the importance matrix has an entry.
    """
    tensors = free_tensors(source, overrides)
    least = _bytes_without(tensors, source, imatrix, overrides, second_moments) + sum(
        min(tensor_bytes(tensor, kind) for kind in possible_types(tensor, tensor.name in weighted))
        for tensor in tensors
    )
    for target in targets:
        _refuse_less(target, least)


def _refuse_less(target: Target, least: int) -> None:
    if target.nbytes < least:
        raise RecipeError(
            f"{target.option}: the smallest file of this model has {least:,} bytes "
            f"({least / 2**20:,.1f} MiB); ask for that or more"
        )


def _bytes_without(
    tensors: Sequence[SourceTensor],
    source: Source,
    imatrix: Imatrix | None,
    overrides: Overrides,
    second_moments: SecondMoments | None,
) -> int:
    """Bytes of a file of `source`, these tensors' bytes apart."""
    plan = plan_output(
        *(source, Path(_ANY.name), _ANY, overrides, imatrix),
        allow_requantize=True,
        second_moments=second_moments,
    )
    free = {tensor.name for tensor in tensors}
    return plan.nbytes - sum(
        tensor_bytes(planned.source, planned.choice.type)
        for planned in plan.tensors
        if planned.source.name in free
    )


def free_tensors(source: Source, overrides: Overrides) -> list[SourceTensor]:
    """The tensors whose types are not decided by the source or by the user."""
    fixed = {
        "token_embd.weight": overrides.token_embedding is not None,
        "output.weight": overrides.output is not None or overrides.leave_output,
    }
    return [
        tensor
        for tensor in source.tensors
        if can_choose(tensor)
        and not fixed.get(tensor.name, False)
        and not any(pattern.search(tensor.name) for pattern, _ in overrides.patterns)
    ]


def target_of_bits(source: Source, bits: float) -> int:
    """Bytes of a file with `bits` for a weight on average, its header included."""
    return int(bits / 8 * sum(prod(tensor.shape) for tensor in source.tensors))


def _base_preset(tensors: Sequence[SourceTensor], choice: Sequence[Option]) -> Preset:
    """The llama-quantize preset that the file is recorded as: that of most of its weights."""
    weights: Counter[Type] = Counter()
    for tensor, option in zip(tensors, choice, strict=True):
        if GGML_QUANT_SIZES[option.type][0] > 1:
            weights[option.type] += prod(tensor.shape)
    most = max(weights, key=lambda kind: weights[kind], default=GGMLQuantizationType.Q8_0)
    return find_preset(most.name)
