"""Run llama.cpp's own converter on the test checkpoints (support/cases.py); keep what it wrote.

Needs what the project does not: a llama.cpp source tree (the sdist of llama-cpp-python carries one
under vendor/llama.cpp) and a Python with torch, transformers 5, sentencepiece and numpy. There:

    python tools/make_expectations.py LLAMA_CPP_FOLDER

writes tests/expected/converter.json: per case every metadata key in order, with type and value (a
SHA-256 for long arrays), and for some the tensors' names, types, shapes and the SHA-256 of their
bytes. The small BPE vocabularies of the tests are not among those whose hash the converter knows;
it is told what their pre-tokenizers are, SmolLM2's and Qwen2's.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WITH_TENSORS = {
    "Tiny-Mixtral-4x1M-Instruct-v0.2": ("f16", "bf16"),
    "mixtral_three_f16": ("f16",),
    "llama3-rope": ("f16",),
    "Qwen2.5-0.1B": ("f16",),
    "Qwen3-0.1B": ("f16",),
    "Qwen2-MoE": ("f16", "bf16"),
    "Qwen3-MoE": ("f16",),
    "Qwen3-MoE-fused": ("f16",),
    "deepseek-moe": ("f16",),
}
LONG = 32
"""Arrays with more items are kept as a hash."""


def main(llama_cpp: Path) -> None:
    """Convert every case and write the expectations."""
    sys.path[:0] = [str(ROOT / "tests"), str(llama_cpp), str(llama_cpp / "gguf-py")]
    cases = import_module("support.cases").CASES
    teach_the_tests_vocabulary()
    expected: dict[str, Any] = {}
    for name, write in cases.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            write(folder)
            for outtype in WITH_TENSORS.get(name, ("f16",)):
                gguf = Path(scratch) / f"{outtype}.gguf"
                convert(llama_cpp, folder, gguf, outtype)
                found = describe(gguf, tensors=name in WITH_TENSORS)
                expected.setdefault(name, {})[outtype] = found
    path = ROOT / "tests" / "expected" / "converter.json"
    path.write_text(one_key_a_line(expected), encoding="utf-8")
    print(f"{path}: {len(expected)} cases, {path.stat().st_size} bytes")


def teach_the_tests_vocabulary() -> None:
    """Let the converter take an unknown vocabulary as what it is, as its authors would add it."""
    model = import_module("conversion.base").TextModel
    known = model.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            name: str = known(self, tokenizer)
        except NotImplementedError:
            steps = str(tokenizer.backend_tokenizer.pre_tokenizer)
            return "qwen2" if "Split" in steps else "smollm"
        return name

    model.get_vocab_base_pre = get_vocab_base_pre


def convert(llama_cpp: Path, folder: Path, gguf: Path, outtype: str) -> None:
    """Run the converter's main program in this process."""
    script = str(llama_cpp / "convert_hf_to_gguf.py")
    sys.argv = [script, str(folder), "--outfile", str(gguf), "--outtype", outtype]
    runpy.run_path(script, run_name="__main__")


def describe(path: Path, *, tensors: bool) -> dict[str, Any]:
    """Metadata as [key, type, item type, value], tensors as [name, type, shape, sha256]."""
    reader = import_module("gguf").GGUFReader(path)
    metadata = []
    for field in reader.fields.values():
        if field.name.startswith("GGUF."):
            continue
        value = field.contents()
        if isinstance(value, list) and len(value) > LONG:
            text = json.dumps(value)
            value = {"count": len(value), "sha256": sha256(text.encode()).hexdigest()}
        types = [kind.name for kind in field.types]
        metadata.append([field.name, types[0], types[1] if len(types) > 1 else None, value])
    found: dict[str, Any] = {"metadata": metadata}
    if tensors:
        found["tensors"] = [
            [
                tensor.name,
                tensor.tensor_type.name,
                [int(n) for n in reversed(tensor.shape)],
                sha256(tensor.data.tobytes()).hexdigest(),
            ]
            for tensor in reader.tensors
        ]
    return found


def one_key_a_line(expected: dict[str, Any]) -> str:
    """JSON with each metadata key and each tensor on a line of its own, for readable diffs."""
    cases = []
    for name, outputs in expected.items():
        types = []
        for outtype, lists in outputs.items():
            parts = [
                f"   {json.dumps(part)}: [\n    "
                + ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in rows)
                + "\n   ]"
                for part, rows in lists.items()
            ]
            types.append(f"  {json.dumps(outtype)}: {{\n" + ",\n".join(parts) + "\n  }")
        cases.append(f" {json.dumps(name)}: {{\n" + ",\n".join(types) + "\n }")
    return "{\n" + ",\n".join(cases) + "\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
