"""Every metadata key, type and value against what llama.cpp's converter wrote."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, README, SMALL, change
from checkpoints import make_checkpoint
from franken_gguf.quantize.config import read_config
from franken_gguf.quantize.errors import CheckpointError
from franken_gguf.quantize.gguf_types import Metadata, Value
from franken_gguf.quantize.metadata import folder_metadata, parameter_counts, rope_freqs
from gguf import GGUFValueType

EXPECTED = json.loads(
    (Path(__file__).parent / "expected" / "converter.json").read_text(encoding="utf-8")
)

# Shapes of the small checkpoints' GGUF tensors, dense and with experts, for general.size_label.
HIDDEN, FF = SMALL["hidden"], SMALL["feed_forward"]


def gguf_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    config = read_config(folder)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (config.vocab_size, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    if not config.tied:
        shapes["output.weight"] = (config.vocab_size, HIDDEN)
    freqs = rope_freqs(config)
    if freqs is not None:
        shapes["rope_freqs.weight"] = freqs.shape
    width = config.kv_heads * config.head_dim
    for layer in range(config.layers):
        block = f"blk.{layer}."
        for name, shape in (
            ("attn_norm", (HIDDEN,)),
            ("ffn_norm", (HIDDEN,)),
            ("attn_q", (HIDDEN, HIDDEN)),
            ("attn_k", (width, HIDDEN)),
            ("attn_v", (width, HIDDEN)),
            ("attn_output", (HIDDEN, HIDDEN)),
        ):
            shapes[f"{block}{name}.weight"] = shape
        for name, rows, cols in (("gate", FF, HIDDEN), ("up", FF, HIDDEN), ("down", HIDDEN, FF)):
            if config.experts:
                shapes[f"{block}ffn_{name}_exps.weight"] = (config.experts, rows, cols)
                shapes[f"{block}ffn_gate_inp.weight"] = (config.experts, HIDDEN)
            else:
                shapes[f"{block}ffn_{name}.weight"] = (rows, cols)
    return shapes


def as_expected(metadata: Metadata) -> list[list[Any]]:
    """Our metadata in the form of the expectations."""
    rows = []
    for key, value in metadata.items():
        data = value.data
        if GGUFValueType.FLOAT32 in (value.type, value.item_type):
            data = np.asarray(data, np.float32).tolist()
        if isinstance(data, list) and len(data) > 32:
            digest = sha256(json.dumps(data).encode()).hexdigest()
            data = {"count": len(data), "sha256": digest}
        item = value.item_type.name if value.item_type is not None else None
        rows.append([key, value.type.name, item, data])
    return rows


def metadata_of(folder: Path) -> Metadata:
    return folder_metadata(folder, read_config(folder), gguf_shapes(folder))


@pytest.mark.parametrize("name", CASES)
def test_all_keys_are_those_of_the_converter_in_its_order(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    CASES[name](folder)
    expected = EXPECTED[name]["f16"]["metadata"]
    assert as_expected(metadata_of(folder)) == expected
