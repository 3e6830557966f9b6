"""What training a router gave on text that was held out: as lines, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from franken_gguf.quantize.router_training.loss import Measured
from franken_gguf.quantize.router_training.train import Trained

_FOREIGN = 6.0
"""Nats for a token: half of what guessing costs."""


def warnings(names: Sequence[str], trained: Trained) -> list[str]:
    """A line for each text of a kind that the model cannot predict."""
    return [
        f"{name}: the model was hardly trained on such text; a trained router helps little"
        for name, before in zip(names, trained.before, strict=True)
        if before.losses.mean() > _FOREIGN
    ]


def lines(names: Sequence[str], trained: Trained) -> list[str]:
    """The loss on each text before and after, and the experts' loads."""
    found = [
        f"{name}: loss {before.losses.mean():.3f} before, {after.losses.mean():.3f} trained "
        "({:+.3f} ± {:.3f})".format(*_change(before, after))
        for name, before, after in zip(names, trained.before, trained.after, strict=True)
    ]
    found.append(
        f"in every layer each expert processes {_range(trained.after)} of the tokens "
        f"(before {_range(trained.before)})"
    )
    return found


def document(out: Path, names: Sequence[str], trained: Trained) -> dict[str, Any]:
    """The same for --json."""
    texts = []
    for name, before, after in zip(names, trained.before, trained.after, strict=True):
        change, error = _change(before, after)
        texts.append(
            {
                "text": name,
                "tokens": before.losses.size,
                "loss_before": float(before.losses.mean()),
                "loss_after": float(after.losses.mean()),
                "change": change,
                "standard_error": error,
            }
        )
    return {
        "path": str(out),
        "written": trained.gain > 0,
        "texts": texts,
        "load_before": _loads(trained.before),
        "load_after": _loads(trained.after),
    }


def _change(before: Measured, after: Measured) -> tuple[float, float]:
    """The mean change of the loss, and its standard error over passages (at least two)."""
    each = (after.losses - before.losses).mean(axis=1)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def _range(measured: Sequence[Measured]) -> str:
    low, high = _loads(measured)
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _loads(measured: Sequence[Measured]) -> tuple[float, float]:
    """The smallest and largest share of one expert in one layer, over all texts."""
    loads = np.mean([one.loads for one in measured], axis=0)
    return float(loads.min()), float(loads.max())
