"""Dense models, adapters and recipes for the tests of merging, and what must come of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.merge.merged_source import MergedSource, merge_source
from franken_gguf.runner.cli import main
from support.bpe_tokenizers import write_json
from support.checkpoints import (
    checkpoint_tensors,
    encode,
    make_checkpoint,
    weights,
    write_safetensors,
)

F32 = NDArray[np.float32]
SHAPE: dict[str, Any] = {"hidden": 64, "heads": 2, "kv_heads": 1, "layers": 2, "feed_forward": 96}
FFN = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def make_dense(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A small dense Llama of BF16 weights that depend on the seed."""
    return make_checkpoint(folder, layout="dense", seed=seed, **(SHAPE | changes))


def dense_tensors(seed: int) -> dict[str, F32]:
    """The weights of `make_dense`, before rounding."""
    shape = SHAPE | {"experts": 0, "tied": False, "vocab": 1024, "layout": "dense"}
    return dict(checkpoint_tensors(seed=seed, **shape))


def make_adapter(
    folder: Path,
    modules: dict[str, tuple[int, int]],
    *,
    rank: int = 3,
    config: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """A LoRA adapter as PEFT saves it; `modules` are names and shapes of the matrices it is for."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | (config or {})))
    tensors = {}
    for module, (rows, cols) in modules.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = weights(f"{module} A", (rank, cols), seed, 0.3)
        tensors[f"{name}.lora_B.weight"] = weights(f"{module} B", (rows, rank), seed, 0.3)
    write_safetensors(folder / "adapter_model.safetensors", tensors, "F32")
    return folder


def write_recipe(path: Path, *experts: dict[str, Any], **fields: Any) -> Path:
    """A recipe beside the models, with `base` as the base model and a random router."""
    document = {"base_model": "base", "gate_mode": "uniform_random", "experts": list(experts)}
    # What stands in two places becomes two objects: YAML would write an alias, which is refused.
    document = json.loads(json.dumps(document | fields))
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def add_tokens(folder: Path, *texts: str, **flags: bool) -> None:
    """Name them in tokenizer.json, behind those that are there."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    added = document["added_tokens"]
    first = len(document["model"]["vocab"].keys() | {token["content"] for token in added})
    added += [
        added[0] | {"id": id_, "content": text} | flags for id_, text in enumerate(texts, first)
    ]
    write_json(path, document)


def joined(folder: Path, *experts: str, **fields: Any) -> MergedSource:
    """A recipe with the union of the vocabularies of models beside it, as a source."""
    entries = [{"source_model": name} for name in experts]
    return merge_source(
        write_recipe(folder / "tales.yml", *entries, tokenizer_source="union", **fields)
    )


def rows_of(source: MergedSource, name: str) -> F32:
    """A whole tensor of the mixture, by Mixtral's name, as float32."""
    shape = source.weights.shapes[name]
    raw = source.weights.read(name, 0, int(np.prod(shape[:-1])))
    assert source.weights.dtype(name).name == "BF16"
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)


def bf16(values: F32) -> F32:
    return (encode(values, "BF16").astype(np.uint32) << 16).view(np.float32)


def tokens_of(header: Header) -> dict[str, tuple[int, int]]:
    """Text to id and type."""
    texts = header.metadata["tokenizer.ggml.tokens"].data
    types = header.metadata["tokenizer.ggml.token_type"].data
    return {text: (id_, types[id_]) for id_, text in enumerate(texts)}


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def table(seed: int, name: str, rows: int) -> NDArray[np.float32]:
    return bf16(weights(name, (rows, 64), seed, 0.05))
