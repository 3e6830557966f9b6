"""The routers' decisions at the scored positions of a part, and their file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.compare.results.metrics import LayerRouting, compare_routing, expert_load
from franken_gguf.runner.engine.probe import RouterProbe


@dataclass
class CapturedRouting:
    """Chosen experts and probabilities by layer, in the order of evaluation."""

    chosen: dict[int, list[NDArray[np.int32]]] = field(default_factory=dict)
    """Expert numbers, arrays of (tokens, n_used)."""
    probs: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    """Router probabilities, arrays of (tokens, n_expert)."""

    def add(self, probe: RouterProbe, outputs: int, scored: int) -> None:
        """Add the first `scored` of the last `outputs` rows of the last evaluation.

        The last layer computes no other rows, the layers before it compute one per token.
        """
        for layer, chosen in probe.chosen.items():
            rows = slice(len(chosen) - outputs, len(chosen) - outputs + scored)
            self.chosen.setdefault(layer, []).append(chosen[rows])
            self.probs.setdefault(layer, []).append(probe.probs[layer][rows])

    def layer(self, layer: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Chosen experts and probabilities of a layer, all evaluations joined."""
        return np.concatenate(self.chosen[layer]), np.concatenate(self.probs[layer])


def routing_by_layer(routing: CapturedRouting, base: CapturedRouting | None) -> list[LayerRouting]:
    """The routing of each layer with a router, compared with `base` if the shapes agree."""
    layers = []
    for layer in sorted(routing.chosen):
        chosen, probs = routing.layer(layer)
        if base and layer in base.chosen:
            base_chosen, base_probs = base.layer(layer)
            if (base_chosen.shape, base_probs.shape) == (chosen.shape, probs.shape):
                layers.append(compare_routing(chosen, probs, base_chosen, base_probs))
                continue
        layers.append(LayerRouting(expert_load(chosen, probs.shape[1])))
    return layers


def save_routing(routing: CapturedRouting, path: Path) -> None:
    """Write an npz file. Raises OSError."""
    arrays: dict[str, Any] = {}
    for layer in routing.chosen:
        arrays[f"chosen-{layer}"], arrays[f"probs-{layer}"] = routing.layer(layer)
    with path.open("wb") as file:  # np.savez adds .npz to a name
        np.savez(file, allow_pickle=False, **arrays)


def load_routing(path: Path) -> CapturedRouting:
    """Read the file that `save_routing` wrote. Raises OSError, ValueError."""
    routing = CapturedRouting()
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            kind, layer = name.split("-")
            if kind == "chosen":
                routing.chosen[int(layer)] = [stored[name]]
            else:
                routing.probs[int(layer)] = [stored[name]]
    return routing
