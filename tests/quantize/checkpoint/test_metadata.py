"""Metadata: what the converter wrote, and what of a folder cannot be stored."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.metadata import folder_metadata, parameter_counts, rope_freqs
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.gguf_file.values import Metadata, Value
from support.cases import CASES, README, SMALL, change
from support.checkpoints import make_checkpoint
from support.converter_keys import EXPECTED

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


def metadata_of(folder: Path) -> Metadata:
    return folder_metadata(folder, read_config(folder), gguf_shapes(folder))


def test_a_bf16_file_differs_in_its_file_type_alone() -> None:
    name = "Tiny-Mixtral-4x1M-Instruct-v0.2"
    f16, bf16 = (EXPECTED[name][outtype]["metadata"] for outtype in ("f16", "bf16"))
    changed = [(a, b) for a, b in zip(f16, bf16, strict=True) if a != b]
    assert [(a[0], a[3], b[3]) for a, b in changed] == [("general.file_type", 1, 32)]


def test_rope_freqs_have_the_bytes_of_the_converter(tmp_path: Path) -> None:
    CASES["llama3-rope"](tmp_path / "m")
    freqs = rope_freqs(read_config(tmp_path / "m"))
    assert freqs is not None
    rows = {row[0]: row[1:] for row in EXPECTED["llama3-rope"]["f16"]["tensors"]}
    digest = sha256(freqs.tobytes()).hexdigest()
    assert rows["rope_freqs.weight"] == ["F32", list(freqs.shape), digest]


def test_parameters_of_experts_count_once_beside_what_they_share() -> None:
    shapes = {
        "token_embd.weight": (10, 4),
        "blk.0.ffn_up_exps.weight": (3, 8, 4),
        "blk.0.ffn_down_exps.weight": (3, 4, 8),
    }
    assert parameter_counts(shapes) == (40 + 96 + 96, 40, 64, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", **SMALL)


def general(folder: Path) -> dict[str, Any]:
    found = metadata_of(folder)
    return {key: value.data for key, value in found.items() if key.startswith("general.")}


def write_card(folder: Path, front_matter: str) -> None:
    (folder / "README.md").write_text(f"---\n{front_matter}\n---\n", encoding="utf-8")


def test_a_folder_named_by_a_dot_has_the_name_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert general(Path())["general.name"] == general(folder)["general.name"] == "Model"


def test_a_version_number_in_the_card_is_kept_as_text(folder: Path) -> None:
    write_card(folder, "version: 1.0")
    assert general(folder)["general.version"] == "1.0"


def test_a_card_without_front_matter_says_nothing(folder: Path) -> None:
    before = general(folder)
    (folder / "README.md").write_text("# Title\n---\nname: x\n", encoding="utf-8")
    assert general(folder) == before


@pytest.mark.parametrize(
    "front_matter",
    [
        "name: [a, b]",
        "license: [{a: b}]",
        "tags: [merge, 7]",
        "tags: [[a]]",
        "base_model: [{name: [1]}]",
        "name: 'unclosed",
        "a: &a [*a]\ntags: *a",
        "name: !!python/object:os.system x",
        "description: " + "[" * 5000,
        "name: \x1b[31m: :",
    ],
)
def test_a_card_that_cannot_be_used_is_one_clear_line(folder: Path, front_matter: str) -> None:
    write_card(folder, front_matter)
    with pytest.raises(CheckpointError, match=r"README\.md: ") as caught:
        metadata_of(folder)
    assert str(caught.value).isprintable()


def test_a_card_as_long_as_a_book_is_refused_before_it_is_parsed(folder: Path) -> None:
    (folder / "README.md").write_text("---\n" + "- a\n" * 400_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="longer than 1,048,576 characters"):
        metadata_of(folder)


def test_the_library_that_reads_the_card_prints_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_card(folder, "base_model: [7]")
    metadata_of(folder)
    assert caplog.records == []


def test_sampling_advice_comes_before_the_name_with_its_types(folder: Path) -> None:
    advice = {"temperature": 1, "top_k": 40, "repetition_penalty": 1.1, "do_sample": True}
    change(folder, "generation_config.json", **advice)
    found = metadata_of(folder)
    keys = list(found)
    assert keys[2:6] == [
        "general.sampling.top_k",
        "general.sampling.temp",
        "general.sampling.penalty_repeat",
        "general.name",
    ]
    assert found["general.sampling.temp"] == Value(GGUFValueType.FLOAT32, 1.0)
    assert found["general.sampling.top_k"] == Value(GGUFValueType.INT32, 40)
    assert found["general.sampling.penalty_repeat"] == Value(GGUFValueType.FLOAT32, 1.1)


def test_penalty_repeat_goes_before_hugging_faces_name_for_it(folder: Path) -> None:
    change(folder, "generation_config.json", penalty_repeat=1.5, repetition_penalty=1.1)
    assert general(folder)["general.sampling.penalty_repeat"] == 1.5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", 40.5),
        ("top_k", 1 << 31),
        ("top_k", True),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("temperature", 1e39),
        ("sequence", ["a"]),
    ],
)
def test_advice_of_the_wrong_type_is_named(folder: Path, key: str, value: object) -> None:
    change(folder, "generation_config.json", **{key: value})
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: .*{key}"):
        metadata_of(folder)


def test_the_card_gives_licence_languages_parents_and_tags(folder: Path) -> None:
    (folder / "README.md").write_text(README, encoding="utf-8")
    found = general(folder)
    assert found["general.license"] == "apache-2.0"
    assert found["general.languages"] == ["en", "no"]
    assert found["general.base_model.count"] == 2
    assert found["general.base_model.1.organization"] == "Teknium"
    assert found["general.tags"] == ["merge", "mergekit", "text-generation"]
