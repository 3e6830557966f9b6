"""Real models for the tests, fetched once and kept under .cache/."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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


@cache
def dense_checkpoint() -> Path:
    """SmolLM2 as a dense Llama folder of 0.4 GB in F16, as wide as the demo's checkpoint."""
    return _path_from("make_dense_model.py")


@cache
def demo_gguf(kind: str) -> Path:
    """The demo's checkpoint converted to `kind`, Q8_0 or Q4_K_M; kept until quantize/ changes."""
    sources = sorted((ROOT / "quantize").rglob("*.py"))
    version = hashlib.sha256(b"".join(map(Path.read_bytes, sources))).hexdigest()[:12]
    folder = ROOT / ".cache" / f"demo-gguf-{version}"
    checkpoint = demo_checkpoint()
    with (ROOT / ".cache" / "demo-gguf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in (ROOT / ".cache").glob("demo-gguf-*/"):
                shutil.rmtree(old)
            half = folder.with_suffix(".part")
            half.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "franken_gguf.runner", "convert", str(checkpoint)]
            command += ["-q", "Q8_0", "-q", "Q4_K_M", "-o", str(half), "--overwrite"]
            subprocess.run(command, check=True, capture_output=True)
            half.rename(folder)
    return folder / f"{checkpoint.name}-{kind}.gguf"


@cache
def rpc_library() -> Path:
    """llama.cpp's RPC backend, built on the first call; its source is fetched then."""
    return _path_from("build_rpc.py")


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


@cache
def other_smollm2() -> Path:
    """`smollm2()` with another default system text: another model, with other answers."""
    target = ROOT / ".cache/smollm2-other/SmolLM2-other.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{os.getpid()}.part")
        patched_smollm2(part, (b"a helpful AI assistant named", b"a sullen pirate captain name"))
        part.replace(target)
    return target
