"""Build llama.cpp's RPC backend beside the installed llama-cpp-python into .cache/, once.

A second ggml device for the tests, on machines without a GPU: two files of the source that the
wheel was built from, one call of the C++ compiler, linked with the wheel's own ggml. Prints the
library's path, for GGML_BACKEND_PATH. Standard library only, and safe to start twice at once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import distribution
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PACKAGE = "llama-cpp-python"
FLAGS = (
    *("-shared", "-fPIC", "-O1", "-std=c++17"),
    # A module that ggml_backend_load takes, for a ggml that is a shared library.
    *("-DGGML_BACKEND_DL", "-DGGML_BACKEND_BUILD", "-DGGML_BACKEND_SHARED", "-DGGML_SHARED"),
)


def build(cache: Path = CACHE) -> Path:
    """The path of the library under `cache`; the first time the source is fetched (77 MB)."""
    package = distribution(PACKAGE)
    folder = cache / f"rpc-{package.version}"
    library = folder / "libggml-rpc.so"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "rpc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            with tempfile.TemporaryDirectory(prefix="rpc-", dir=cache) as scratch:
                made = _compile(_source(Path(scratch), package.version), Path(scratch))
                folder.mkdir(exist_ok=True)
                made.rename(library)
    return library


def _source(folder: Path, version: str) -> Path:
    print(f"fetching the source of {PACKAGE} {version} (77 MB), once ...", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-binary"]
    command += [PACKAGE, "--dest", str(folder), f"{PACKAGE}=={version}"]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError:
        sys.exit(f"error: pip could not download the source of {PACKAGE}; its reason stands above")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        wanted = [m for m in source.getmembers() if "/vendor/llama.cpp/ggml/" in m.name]
        source.extractall(folder, wanted, filter="data")
    (ggml,) = folder.glob("*/vendor/llama.cpp/ggml")
    return ggml


def _compile(ggml: Path, folder: Path) -> Path:
    package = Path(str(distribution(PACKAGE).locate_file("llama_cpp")))
    (base,) = sorted((package / "lib").glob("libggml-base.so.0"))
    sources = [ggml / "src" / "ggml-rpc" / name for name in ("ggml-rpc.cpp", "transport.cpp")]
    library = folder / "libggml-rpc.so"
    command = [os.environ.get("CXX", "c++"), *FLAGS]
    command += [f"-I{ggml / 'include'}", f"-I{ggml / 'src'}", *map(str, sources)]
    try:
        subprocess.run([*command, "-o", str(library), str(base)], check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: the RPC backend could not be compiled: {error}")
    return library


if __name__ == "__main__":
    try:
        print(build())
    except KeyboardInterrupt:
        sys.exit(130)
