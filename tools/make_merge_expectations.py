"""Run mergekit and transformers on tests/expected/merge_recipe.yml and store the results there.

Needs torch, transformers and mergekit, which the project does not: use a separate environment.

    python tools/make_dense_model.py
    R=tests/expected/merge_recipe.yml
    franken-gguf merge $R /tmp/ours --base-type F16
    franken-gguf merge $R /tmp/fused --base-type F16 --layout fused
    (cd tests/expected && mergekit-moe merge_recipe.yml /tmp/mergekits --device cpu \
        --i-understand-this-is-not-useful-without-training)
    python tools/make_merge_expectations.py /tmp/ours /tmp/fused /tmp/mergekits

merge_gates.npz holds mergekit's gate rows of every third layer (float16 [layers, experts, hidden]);
merge_logits.json the logits that transformers' MixtralForCausalLM gives for our checkpoint, the
same in both layouts. Prints how close ours are to mergekit's, over all layers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, MixtralForCausalLM

EXPECTED = Path(__file__).resolve().parent.parent / "tests" / "expected"
TEXT = "Once upon a time, in a harbour town, a lighthouse keeper found a map."
EVERY, LAST, IDS = 3, 8, 1024


def gates(folder: Path) -> np.ndarray:
    """The router's rows of every layer, float32 [layers, experts, hidden]."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.endswith(".gate.weight")]  # noqa: SIM118 - no dict
        names.sort(key=lambda name: int(name.split(".")[2]))
        return np.stack([file.get_tensor(name).float().numpy() for name in names])


def logits(folder: Path) -> tuple[list[int], np.ndarray]:
    """The ids of TEXT, and the logits after its last tokens, every IDS-th of the vocabulary."""
    ids = AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False).input_ids
    model = MixtralForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0]
    return ids, rows[-LAST:, ::IDS].numpy()


def main() -> None:
    """Write both files."""
    ours, fused, mergekits = map(Path, sys.argv[1:])
    ids, rows = logits(ours)
    same, others = logits(fused)
    assert ids == same and np.abs(rows - others).max() < 1e-4, np.abs(rows - others).max()
    own, theirs = gates(ours), gates(mergekits)
    lengths = np.linalg.norm(own, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosines = (own * theirs).sum(-1) / lengths
    print(f"cosine to mergekit's gate rows: mean {cosines.mean():.5f}, least {cosines.min():.5f}")
    np.savez_compressed(EXPECTED / "merge_gates.npz", rows=theirs[::EVERY].astype(np.float16))
    document = {"ids": ids, "every": IDS, "logits": np.round(rows, 4).tolist()}
    (EXPECTED / "merge_logits.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
