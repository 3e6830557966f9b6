"""Run transformers on the test checkpoints of each family; keep some of the logits.

Needs a Python with torch, transformers 5 and numpy. There:

    python tools/make_logits.py

writes tests/expected/logits.json: per family the logits, in float32, of every _STEP-th token after
each of TOKENS. transformers has no class for DeepSeek's first version, which is Qwen2-MoE with
other numbers: no biases, a dense first layer, and a shared expert whose gate is open (its gate of
zeros weighs it by a half, so its last matrix is doubled).
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
_STEP = 16


def main() -> None:
    """Run every family and write the expectations."""
    sys.path[:0] = [str(ROOT / "tests")]
    support = import_module("support.family_checkpoints")
    found = {}
    for family in support.CLASSES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = support.make_family_checkpoint(Path(scratch), family)
            if family == "deepseek":
                rewrite_deepseek(support, folder)
            found[family] = logits(folder, support.LOGIT_TOKENS)
    path = ROOT / "tests" / "expected" / "logits.json"
    rows = (f' "{name}": {json.dumps(values)}' for name, values in found.items())
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def logits(folder: Path, tokens: list[int]) -> list[list[float]]:
    """The logits of every _STEP-th token after each of `tokens`, to five decimal places."""
    torch, transformers = import_module("torch"), import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        output = model.eval()(torch.tensor([tokens])).logits[0, :, ::_STEP]
    rows: list[list[float]] = np.round(output.numpy().astype(np.float64), 5).tolist()
    return rows


def rewrite_deepseek(support: Any, folder: Path) -> None:
    """Rewrite a DeepSeek checkpoint as the Qwen2-MoE that computes the same."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = dict(support.family_tensors("deepseek", config))
    renamed = {}
    for name, values in tensors.items():
        is_last = name.endswith("shared_experts.down_proj.weight")
        renamed[name.replace("shared_experts", "shared_expert")] = values * (2 if is_last else 1)
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    dense = list(range(config["first_k_dense_replace"]))
    for layer in range(layers):
        if layer not in dense:
            gate = f"model.layers.{layer}.mlp.shared_expert_gate.weight"
            renamed[gate] = np.zeros((1, hidden), np.float32)
    config |= {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "mlp_only_layers": dense,
        "num_experts": config["n_routed_experts"],
        "qkv_bias": False,
        "shared_expert_intermediate_size": config["n_shared_experts"]
        * config["moe_intermediate_size"],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    support.write_safetensors(folder / "model.safetensors", renamed, "BF16")


if __name__ == "__main__":
    main()
