"""Run llama.cpp's llama-imatrix on the test models (support/imatrix_cases.py); keep its figures.

    python tools/make_imatrix_expectations.py LLAMA_IMATRIX

with the program built from the source of llama.cpp that llama-cpp-python's sdist carries under
vendor/llama.cpp (cmake -DLLAMA_BUILD_TOOLS=ON, target llama-imatrix) writes
tests/expected/imatrix.json: per model the hash of the file's header, and per tensor the shape, the
counts, or the total and a few columns of the sums.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main(program: Path) -> None:
    """Run every case and write the expectations."""
    sys.path[:0] = [str(ROOT / "tests")]
    cases = import_module("support.imatrix_cases")
    expected: dict[str, Any] = {}
    for name, make in cases.CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            cases.write_text(folder)
            model = make(folder)
            for file in ("made.gguf", "made.dat"):
                # One sequence in a batch, as ours: several change the last digits.
                batch = ["-b", str(cases.CHUNK_SIZE)]
                kind = ["--output-format", file.rpartition(".")[2]]
                command = [program, "-m", model, "-f", cases.TEXT, *cases.OPTIONS, *batch, *kind]
                subprocess.run([*map(str, command), "-o", file], cwd=folder, check=True)
            expected[name] = describe(cases, folder / "made.gguf", folder / "made.dat")
    path = ROOT / "tests" / "expected" / "imatrix.json"
    path.write_text(one_tensor_a_line(expected), encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")


def describe(cases: Any, gguf: Path, legacy: Path) -> dict[str, Any]:
    """The figures that are kept of one model's files."""
    header = import_module("franken_gguf.quantize.gguf_file.header").read_header(gguf)
    start = min(tensor.offset for tensor in header.tensors)
    content = gguf.read_bytes()
    tensors = {}
    for name, values in cases.tensors_of(gguf).items():
        is_counts = name.endswith(".counts")
        tensors[name] = values.reshape(-1).tolist() if is_counts else cases.sample(values)
    return {
        "header": sha256(content[:start]).hexdigest(),
        "bytes": len(content),
        "dat": [legacy.stat().st_size, legacy.read_bytes()[-16:].hex()],
        "tensors": tensors,
    }


def one_tensor_a_line(expected: dict[str, Any]) -> str:
    """JSON with each tensor on a line of its own, for readable diffs."""
    models = []
    for name, found in expected.items():
        tensors = ",\n   ".join(
            f"{json.dumps(tensor)}: {json.dumps(figures)}"
            for tensor, figures in found["tensors"].items()
        )
        head = json.dumps({key: found[key] for key in ("header", "bytes", "dat")})[1:-1]
        models.append(f' {json.dumps(name)}: {{\n  {head},\n  "tensors": {{\n   {tensors}}}}}')
    return "{\n" + ",\n".join(models) + "\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
