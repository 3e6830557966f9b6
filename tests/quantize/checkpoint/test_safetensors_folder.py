"""Folders of safetensors: rows come back as stored, and every lie in a header is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.checkpoint.safetensors_folder import SafetensorsFolder
from franken_gguf.quantize.common.errors import CheckpointError
from support.checkpoints import (
    Sizes,
    checkpoint_tensors,
    encode,
    make_checkpoint,
    write_safetensors,
)

SMALL: Sizes = {
    "hidden": 32,
    "feed_forward": 64,
    "layers": 1,
    "experts": 2,
    "heads": 2,
    "kv_heads": 1,
}


def raw_file(folder: Path, header: object, data: bytes = bytes(64)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def entry(dtype: str = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_come_back_as_they_were_written(tmp_path: Path, shards: int) -> None:
    make_checkpoint(tmp_path, shards=shards, dtype="BF16", vocab=1024, **SMALL)
    folder = SafetensorsFolder(tmp_path)
    wanted = dict(checkpoint_tensors(layout="per-expert", tied=False, vocab=1024, seed=0, **SMALL))
    assert folder.shapes == {name: values.shape for name, values in wanted.items()}
    for name, values in wanted.items():
        rows = encode(values, "BF16").reshape(-1, values.shape[-1])
        assert (folder.read(name, 0, len(rows)).view("<u2") == rows).all()
        assert (
            folder.read(name, len(rows) // 2, len(rows)).view("<u2") == rows[len(rows) // 2 :]
        ).all()


def test_an_index_that_names_a_missing_file_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=3, **SMALL)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"model-00002-of-00003\.safetensors: this shard is missing"
    ):
        SafetensorsFolder(tmp_path)


def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=2, **SMALL)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    with pytest.raises(CheckpointError, match="is not mapped to a file of this folder"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000])
def test_a_file_that_is_not_an_index_is_refused(tmp_path: Path, text: str) -> None:
    make_checkpoint(tmp_path, shards=2, **SMALL)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: "):
        SafetensorsFolder(tmp_path)


def test_a_tensor_that_is_not_in_its_shard_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=2, **SMALL)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model.norm.weight", "model.form.weight"))
    with pytest.raises(CheckpointError, match=r"'model\.form\.weight' is missing, although"):
        SafetensorsFolder(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=2, **SMALL)
    for shard in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        write_safetensors(tmp_path / shard, {"a": np.zeros(4, np.float32)}, "F32")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    SafetensorsFolder(tmp_path)
    write_safetensors(
        tmp_path / "model-00002-of-00002.safetensors",
        {name: np.zeros(4, np.float32) for name in ("a", "b")},
        "F32",
    )
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps(
            {
                "weight_map": {
                    "a": "model-00001-of-00002.safetensors",
                    "b": "model-00002-of-00002.safetensors",
                }
            }
        )
    )
    with pytest.raises(CheckpointError, match="'a' is also in model-00001"):
        SafetensorsFolder(tmp_path)


def test_a_truncated_shard_is_refused_with_the_tensor_it_ends_in(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, **SMALL)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' ends at byte .* it is truncated"):
        SafetensorsFolder(tmp_path)


def test_a_file_cut_after_its_header_was_read_is_named_with_the_tensor(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, **SMALL)
    folder = SafetensorsFolder(tmp_path)
    file = tmp_path / "model.safetensors"
    with file.open("rb+") as stream:
        stream.truncate(file.stat().st_size - 100)
    with pytest.raises(CheckpointError, match=r"inside 'lm_head\.weight'"):
        folder.read("lm_head.weight", 0, 1024)


BAD = {
    "a header longer than the file": (b"\xff" * 8 + b"{}", "the header's length is"),
    "no JSON": (b"{", "not a JSON object"),
    "a list": ([], "not a JSON object"),
    "JSON too deep to parse": (b"[" * 200_000, "not a JSON object"),
    "an entry that is a number": ({"t": 1}, "'t' has no valid dtype"),
    "an entry without offsets": ({"t": {"dtype": "F32", "shape": [4]}}, "'t' has no valid dtype"),
    "a dtype of a kind nobody converts": ({"t": entry("F8_E4M3")}, "'t' is F8_E4M3; only"),
    "a negative dimension": ({"t": entry(shape=[-4])}, "invalid shape"),
    "a dimension that is true": ({"t": entry(shape=[True, 4])}, "invalid shape"),
    "five dimensions": ({"t": entry(shape=[1, 1, 1, 1, 4])}, "invalid shape"),
    "a shape larger than its bytes": ({"t": entry(shape=[5])}, "offsets span 16"),
    "a dtype wider than its bytes": ({"t": entry("BF16")}, "offsets span 16"),
    "offsets below zero": ({"t": entry(offsets=[-16, 0])}, "offsets span 16|damaged"),
    "offsets beyond the file": ({"t": entry(offsets=[64, 80])}, "ends at byte .* it is truncated"),
    "overlapping tensors": (
        {"t": entry(), "u": entry(offsets=[8, 24])},
        "'t' and 'u' overlap",
    ),
    "a name with an escape sequence": ({"\x1b[2J": entry(shape=[5])}, r"'\\x1b\[2J' is F32"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_header_that_lies_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    header, message = BAD[case]
    if case == "a header longer than the file":
        assert isinstance(header, bytes)
        (tmp_path / "model.safetensors").write_bytes(header)
    else:
        raw_file(tmp_path, header)
    with pytest.raises(CheckpointError, match=message) as error:
        SafetensorsFolder(tmp_path)
    assert "\n" not in str(error.value)
    assert "model.safetensors: " in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty; download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "it is a Git LFS pointer to the file; run 'git lfs pull', or download it",
        ),
    ],
)
def test_what_is_there_in_place_of_the_file_is_named(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        SafetensorsFolder(tmp_path)
    assert str(error.value) == f"{file}: not a safetensors file: {reason}"


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["dtype", "shape", "data_offsets", "t", "__metadata__"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_in_front_of_the_data_is_read_or_refused(tmp_path: Path, header: Any) -> None:
    raw_file(tmp_path, json.dumps(header).encode())
    try:
        SafetensorsFolder(tmp_path)
    except CheckpointError as error:
        assert "\n" not in str(error)


def test_a_folder_without_weights_says_what_it_has_instead(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        SafetensorsFolder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="only pickled weights"):
        SafetensorsFolder(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        SafetensorsFolder(tmp_path)
