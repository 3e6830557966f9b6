"""How many tokens each expert of each layer has had. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums

_LAYER = re.compile(r"blk\.(\d{1,4})\.")


@dataclass(frozen=True)
class LayerShares:
    """The experts of one layer."""

    layer: int
    counts: NDArray[np.int64]
    """Tokens of each expert."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each expert's part of the layer's tokens; an even router gives each the same."""
        shares: NDArray[np.float64] = self.counts / max(1, self.counts.sum())
        return shares

    @property
    def rarest(self) -> int:
        """The expert with the fewest tokens."""
        return int(self.counts.argmin())


def expert_shares(weights: Mapping[str, WeightSums]) -> list[LayerShares]:
    """The layers that have experts, in order; a layer's matrices have the same counts."""
    layers: dict[int, NDArray[np.int64]] = {}
    for name, weight in weights.items():
        found = _LAYER.match(name)
        if found and len(weight.counts) > 1:
            layers.setdefault(int(found[1]), weight.counts)
    return [LayerShares(layer, layers[layer]) for layer in sorted(layers)]


def rare_experts(layers: list[LayerShares], floor: int) -> list[tuple[int, int, int]]:
    """(layer, expert, tokens) of those that had fewer than `floor` tokens, the rarest first."""
    rare = [
        (layer.layer, int(expert), int(layer.counts[expert]))
        for layer in layers
        for expert in np.flatnonzero(layer.counts < floor)
    ]
    return sorted(rare, key=lambda one: (one[2], one))
