"""Real models for the tests, fetched once and kept under .cache/."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Q4_1 GGUF (98 MB); downloaded on the first call."""
    return _path_from("fetch_smollm2.py")


@cache
def demo_checkpoint() -> Path:
    """The demo's Mixtral of four experts, a Hugging Face folder of 1.1 GB in F16.

    Takes 10 seconds the first time. Two test processes may ask at once.
    """
    return _path_from("make_demo_model.py")


def _path_from(tool: str) -> Path:
    command = [sys.executable, str(ROOT / "tools" / tool)]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout[:-1])


def patched_smollm2(target: Path, *changes: tuple[bytes, bytes]) -> Path:
    """A copy of `smollm2()` at `target` with each first text replaced by the second, of its length.

    What a stranger may have written into a file, without moving a single offset.
    """
    data = smollm2().read_bytes()
    for old, new in changes:
        assert len(old) == len(new) and old in data
        data = data.replace(old, new)
    target.write_bytes(data)
    return target
