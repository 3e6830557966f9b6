"""Conversions that are refused or fail: what is named, and that nothing existing is lost."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.common.errors import CheckpointError, OutputError, RecipeError
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import (
    Type,
)
from support.checkpoints import make_checkpoint
from support.conversions import converted


@pytest.mark.parametrize(("value", "what"), [(0x7FC0, "NaN"), (0x7F80, "Inf"), (0xFF80, "-Inf")])
def test_a_weight_that_is_not_finite_stops_the_conversion_and_is_named(
    tmp_path: Path, value: int, what: str
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2 * 256 * 100 : -2 * 256 * 100 + 2] = value.to_bytes(2, "little")
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r": tensor 'lm_head\.weight' holds NaN.*row 924"):
        converted(checkpoint, tmp_path / "out", ["F16", "Q8_0"])
    assert list((tmp_path / "out").iterdir()) == [], what


def test_a_weight_beyond_f16_is_refused_where_it_would_become_infinite(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", layout="fused")
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2:] = 0xC800.to_bytes(2, "little")  # -131072 in BF16
    weights.write_bytes(data)
    for kind in (Type.F16, Type.Q4_1):
        name, only = kind.name, Overrides(output=kind)
        with pytest.raises(RecipeError, match=rf"'output\.weight'.* 1\.31e\+05, beyond {name}"):
            converted(checkpoint, tmp_path / "out", [name], overrides=only)
    assert converted(checkpoint, tmp_path / "out", ["Q8_0", "BF16"])


def test_an_output_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    out = tmp_path / "out"
    out.mkdir()
    old = out / "model-Q8_0.gguf"
    old.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"exists already; add --overwrite"):
        converted(checkpoint, out, ["F16", "Q8_0"])
    assert [path.name for path in out.iterdir()] == ["model-Q8_0.gguf"]
    assert old.read_bytes() == b"precious"
    converted(checkpoint, out, ["Q8_0"], overwrite=True)
    assert old.read_bytes()[:4] == b"GGUF"


def test_a_failed_conversion_leaves_the_old_output_as_it_was(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (q8,) = converted(checkpoint, tmp_path / "out", ["Q8_0"])
    before = q8.read_bytes()
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2:] = b"\xff\x7f"
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        converted(checkpoint, tmp_path / "out", ["Q8_0"], overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model-Q8_0.gguf"]
    assert q8.read_bytes() == before


def test_the_source_is_never_its_own_output(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", dtype="F16")
    (f16,) = converted(checkpoint, tmp_path / "out", ["F16"])
    before = f16.read_bytes()
    (tmp_path / "out" / "model-F32.gguf").symlink_to(f16)
    for name in ("F16", "F32"):
        with pytest.raises(OutputError, match="is the source itself"):
            converted(f16, tmp_path / "out", [name], overwrite=True)
    assert f16.read_bytes() == before


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    """A sparse checkpoint of 3 TB takes no room itself, but its conversion would."""
    sizes: dict[str, Any] = {
        "layout": "dense",
        "hidden": 64,
        "heads": 2,
        "kv_heads": 2,
        "layers": 256,
    }
    checkpoint = make_checkpoint(tmp_path / "model", dtype="F32", feed_forward=32, **sizes)
    config = checkpoint / "config.json"
    config.write_text(
        config.read_text().replace('"intermediate_size": 32', f'"intermediate_size": {1 << 24}')
    )
    make_sparse(checkpoint / "model.safetensors", 32, 1 << 24)
    with pytest.raises(OutputError, match=r"bytes needed, [\d,]+ free"):
        converted(checkpoint, tmp_path / "out", ["F16", "F32"])
    assert list((tmp_path / "out").iterdir()) == []


def make_sparse(weights: Path, old: int, new: int) -> None:
    """Give every dimension of `old` the length `new`, and the file the size that this needs."""
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    offset = 0
    for name, entry in header.items():
        if name != "__metadata__":
            entry["shape"] = [new if n == old else n for n in entry["shape"]]
            end = offset + 4 * prod(entry["shape"])
            entry["data_offsets"], offset = [offset, end], end
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text)
    with weights.open("rb+") as file:
        file.truncate(8 + len(text) + offset)
