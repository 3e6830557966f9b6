"""Run mergekit-moe on the recipes of tests/support/family_merges.py and store what it writes.

Needs a Python with mergekit from its repository (0.1.5 or later), torch and transformers 5. There:

    python tools/make_family_merges.py

writes tests/expected/mergekit_families.json: per recipe its config.json, and for each tensor the
shape and the SHA-256 of its bytes (null for routers and gates, which are random).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_ROUTERS = ("gate.weight", "shared_expert_gate.weight")


def main() -> None:
    """Merge every recipe and write the expectations."""
    sys.path[:0] = [str(ROOT / "tests")]
    support = import_module("support.family_merges")
    found = {}
    for name in support.RECIPES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            recipe = support.write_family_recipe(folder, name)
            (folder / "out").mkdir()  # its DeepSeek output expects it
            merge = [sys.executable, "-m", "mergekit.scripts.moe", recipe.name, "out"]
            environ = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            subprocess.run([*merge, "--no-copy-tokenizer"], check=True, cwd=folder, env=environ)
            found[name] = described(folder / "out")
    path = ROOT / "tests" / "expected" / "mergekit_families.json"
    text = json.dumps(found, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def described(folder: Path) -> dict[str, Any]:
    """The config and the tensors of a checkpoint."""
    torch, safetensors = import_module("torch"), import_module("safetensors.torch")
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in safetensors.load_file(file).items():
            data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
            digest = None if name.endswith(_ROUTERS) else sha256(data).hexdigest()
            tensors[name] = [list(tensor.shape), digest]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {"config": config, "tensors": tensors}


if __name__ == "__main__":
    main()
