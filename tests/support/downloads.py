"""A repository of the Hub to fetch, and fetching it as the verbs do."""

from __future__ import annotations

import json
from pathlib import Path

from franken_gguf.quantize.hub.hub_cache import find_cached
from franken_gguf.quantize.hub.hub_name import HubName
from franken_gguf.runner.download.fetch_files import Report, fetch_files
from franken_gguf.runner.download.repository import look_up
from franken_gguf.runner.download.wanted_files import wanted_files

NAME = HubName("org/tales")
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
PIECE = 1 << 16
FILES = {
    "README.md": b"# Tales",
    "config.json": b"{}",
    "model-1.safetensors": WEIGHTS,
    "model-2.safetensors": WEIGHTS[::-1],
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "consolidated.safetensors": b"the same once more",
    "modeling_tales.py": b"import os",
    "pytorch_model.bin": b"a pickle",
    "tokenizer.json": b'{"version": "1.0"}',
}
NEEDED = FILES.keys() - {"consolidated.safetensors", "modeling_tales.py", "pytorch_model.bin"}
GGUF = {"tales-Q4_0.gguf": b"four", "tales-Q8_0.gguf": b"eight", "README.md": b"#"}


def fetch(name: HubName = NAME, *, gguf: bool = False, report: Report | None = None) -> Path:
    """Fetch a model as the verbs do; its path in the cache."""
    repository = look_up(name)
    files = wanted_files(repository, gguf=gguf)
    fetch_files(repository, files, report or (lambda name, nbytes: None))
    found = find_cached(name, gguf=gguf)
    assert found
    return found
