"""What the routers decided over the scored positions of a part, and its file."""

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
    """By layer, in the order of evaluation."""

    chosen: dict[int, list[NDArray[np.int32]]] = field(default_factory=dict)
    """Expert numbers of each token, (tokens, n_used)."""
    probs: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    """(tokens, n_expert)."""

    def add(self, probe: RouterProbe, outputs: int, scored: int) -> None:
        """What the last evaluation left of its first `scored` rows among the last `outputs`.

        In the last layer there are no other rows.
        """
        for layer, chosen in probe.chosen.items():
            rows = slice(len(chosen) - outputs, len(chosen) - outputs + scored)
            self.chosen.setdefault(layer, []).append(chosen[rows])
            self.probs.setdefault(layer, []).append(probe.probs[layer][rows])

    def layer(self, layer: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Everything heard of one layer."""
        return np.concatenate(self.chosen[layer]), np.concatenate(self.probs[layer])


def routing_of(heard: CapturedRouting, base: CapturedRouting | None) -> list[LayerRouting]:
    """For each layer with a router; compared where `base` has the same routers."""
    found = []
    for layer in sorted(heard.chosen):
        chosen, probs = heard.layer(layer)
        if base and layer in base.chosen:
            base_chosen, base_probs = base.layer(layer)
            if (base_chosen.shape, base_probs.shape) == (chosen.shape, probs.shape):
                found.append(compare_routing(chosen, probs, base_chosen, base_probs))
                continue
        found.append(LayerRouting(expert_load(chosen, probs.shape[1])))
    return found


def save_routing(heard: CapturedRouting, path: Path) -> None:
    """Write an npz file. Raises OSError."""
    arrays: dict[str, Any] = {}
    for layer in heard.chosen:
        arrays[f"chosen-{layer}"], arrays[f"probs-{layer}"] = heard.layer(layer)
    with path.open("wb") as file:  # a name would get a suffix
        np.savez(file, allow_pickle=False, **arrays)


def load_routing(path: Path) -> CapturedRouting:
    """What `save_routing` wrote. Raises OSError, ValueError."""
    heard = CapturedRouting()
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            kind, layer = name.split("-")
            if kind == "chosen":
                heard.chosen[int(layer)] = [stored[name]]
            else:
                heard.probs[int(layer)] = [stored[name]]
    return heard
