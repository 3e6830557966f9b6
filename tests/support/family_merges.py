"""Recipes for each family that a merge can make, and the small models that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from support.checkpoints import Sizes, make_checkpoint
from support.family_checkpoints import FamilyName, make_family_checkpoint

MODELS = ("base", "poet", "cook")
_LLAMA: Sizes = {"hidden": 64, "heads": 2, "kv_heads": 1, "layers": 2, "feed_forward": 96}
_EXPERTS = [{"source_model": "poet"}, {"source_model": "cook", "residual_scale": 0.7}]
_SHARED = {"shared_experts": [{"source_model": "base", "residual_scale": 0.1}]}

RECIPES: dict[str, tuple[FamilyName | None, dict[str, Any]]] = {
    "qwen3": ("qwen3", {}),
    "qwen2": ("qwen2", _SHARED),
    "llama-as-qwen": (None, _SHARED | {"architecture": "qwen"}),
    "deepseek": (None, _SHARED),
}
"""Name to the family of the models, None for Llama, and the recipe's further fields."""


def write_family_recipe(folder: Path, name: str, **fields: Any) -> Path:
    """A recipe of RECIPES with its models, in `folder`; returns its path."""
    folder.mkdir(exist_ok=True)
    family, more = RECIPES[name]
    for seed, model in enumerate(MODELS):
        if family is None:
            make_checkpoint(folder / model, layout="dense", seed=seed, **_LLAMA)
        else:
            make_family_checkpoint(folder / model, family, seed=seed)
    recipe = {"base_model": "base", "gate_mode": "random", "experts": _EXPERTS} | more | fields
    path = folder / f"{name}.yml"
    # What stands in two places becomes two objects: YAML would write an alias, which is refused.
    document = json.loads(json.dumps(recipe))
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
