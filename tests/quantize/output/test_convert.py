"""Whole files: byte for byte what llama.cpp writes, whatever the source looks like."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import (
    LLAMA_PRESETS,
    PRESETS,
    Type,
    find_preset,
)
from support.checkpoints import Dtype, make_checkpoint
from support.conversions import converted, digest
from support.family_checkpoints import CLASSES, FamilyName, make_family_checkpoint
from support.oracle import llama_quantize

NEEDING_IMATRIX = [name for name, preset in LLAMA_PRESETS.items() if preset.without_imatrix]
QUANTS = [name for name in LLAMA_PRESETS if name not in ("F32", "F16", "BF16", *NEEDING_IMATRIX)]


def quants_for(model: dict[str, Any]) -> list[str]:
    """Those that the model's rows fit: Q1_0 has no fallback, in llama-quantize neither."""
    return [name for name in QUANTS if name != "Q1_0" or model.get("hidden", 256) % 128 == 0]


MODELS: dict[str, dict[str, Any]] = {
    "4 experts": {},
    "2 experts, tied, F16": {"experts": 2, "tied": True, "dtype": "F16"},
    "8 experts, plain attention": {"experts": 8, "kv_heads": 4, "layers": 3, "feed_forward": 256},
    "3 experts in odd sizes": {
        "experts": 3,
        "hidden": 96,
        "heads": 3,
        "kv_heads": 1,
        "feed_forward": 160,
    },
    "gqa 3, tied": {"heads": 6, "kv_heads": 2, "hidden": 768, "layers": 1, "tied": True},
    "gqa 4": {"heads": 8, "kv_heads": 2, "layers": 1},
    "dense, F32": {"layout": "dense", "dtype": "F32"},
    "dense Mistral, tied": {"layout": "dense", "tied": True, "dense_class": "MistralForCausalLM"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_quantized_file_is_llama_quantizes_byte_for_byte(tmp_path: Path, kind: str) -> None:
    dtype: Dtype = MODELS[kind].get("dtype", "BF16")
    checkpoint = make_checkpoint(tmp_path / "model", **MODELS[kind])
    names = quants_for(MODELS[kind])
    lossless, *ours = converted(checkpoint, tmp_path / "ours", [dtype, *names])
    for path, name in zip(ours, names, strict=True):
        theirs = llama_quantize(lossless, tmp_path / "theirs.gguf", PRESETS[name].file_type)
        assert read_header(path).metadata == read_header(theirs).metadata, name
        assert path.read_bytes() == theirs.read_bytes(), name


FAMILY_SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 512,
    "head_dim": 64,
}


@pytest.mark.parametrize("family", CLASSES)
def test_a_quantized_file_of_every_family_is_llama_quantizes_byte_for_byte(
    tmp_path: Path, family: FamilyName
) -> None:
    checkpoint = make_family_checkpoint(tmp_path / family, family, **FAMILY_SIZES)
    names = ("Q4_K_M", "MXFP4_MOE")
    lossless, *ours = converted(checkpoint, tmp_path / "ours", ["BF16", *names])
    again = converted(lossless, tmp_path / "again", names)
    for path, requantized, name in zip(ours, again, names, strict=True):
        theirs = llama_quantize(lossless, tmp_path / "theirs.gguf", PRESETS[name].file_type)
        assert read_header(path).metadata == read_header(theirs).metadata, name
        assert path.read_bytes() == theirs.read_bytes(), name
        assert requantized.read_bytes() == theirs.read_bytes(), name


def random_imatrix(gguf: Path, without: str = "token_embd") -> Imatrix:
    """Importances for all matrices of a model but those whose names start with `without`."""
    rng = np.random.default_rng(5)
    values = {
        tensor.name: rng.exponential(size=prod(tensor.shape[:-2]) * tensor.shape[-1]).astype("<f4")
        for tensor in read_header(gguf).tensors
        if len(tensor.shape) > 1 and not tensor.name.startswith(without)
    }
    return Imatrix(Path("tales.imatrix"), values, {}, chunks=12, dataset=b"tales.txt")


@pytest.mark.parametrize(
    "kind", ["4 experts", "8 experts, plain attention", "3 experts in odd sizes"]
)
def test_a_file_made_with_an_imatrix_is_llama_quantizes_byte_for_byte(
    tmp_path: Path, kind: str
) -> None:
    small = {"feed_forward": 256} | MODELS[kind] | {"layers": 2}  # the weighted search is slow
    checkpoint = make_checkpoint(tmp_path / "model", **small)
    (lossless,) = converted(checkpoint, tmp_path / "lossless", ["BF16"])
    for names, without in ((quants_for(small), "blk.1.attn_q."), (NEEDING_IMATRIX, "token_embd")):
        imatrix = random_imatrix(lossless, without)
        keys: dict[str, str | int] = {
            "quantize.imatrix.file": "tales.imatrix",
            "quantize.imatrix.dataset": "tales.txt",
            "quantize.imatrix.entries_count": len(imatrix.values),
            "quantize.imatrix.chunks_count": 12,
        }
        ours = converted(checkpoint, tmp_path / "ours", names, imatrix=imatrix)
        for path, name in zip(ours, names, strict=True):
            theirs = llama_quantize(
                lossless,
                tmp_path / "theirs.gguf",
                PRESETS[name].file_type,
                imatrix=imatrix.values,
                keys=keys,
            )
            assert read_header(path).metadata == read_header(theirs).metadata, name
            assert path.read_bytes() == theirs.read_bytes(), name


@pytest.mark.parametrize("name", NEEDING_IMATRIX)
def test_a_preset_that_needs_an_imatrix_wants_every_importance(tmp_path: Path, name: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (lossless,) = converted(checkpoint, tmp_path / "lossless", ["BF16"])
    imatrix = random_imatrix(lossless, without="blk.1.attn_q.")
    with pytest.raises(RecipeError, match=r"tales\.imatrix lacks .* of 'blk\.1\.attn_q\.w"):
        converted(checkpoint, tmp_path / "ours", [name], imatrix=imatrix)


def test_strict_types_refuse_where_llama_quantize_would_fall_back(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", **MODELS["3 experts in odd sizes"])
    model = open_source(checkpoint)
    preset = find_preset("Q4_K_M")
    plan = plan_output(model, tmp_path / "x.gguf", preset)
    assert plan.wanted_bits_per_weight < plan.bits_per_weight
    with pytest.raises(RecipeError, match=r"fit tensor 'token_embd\.weight' \(and 14 more\)"):
        plan_output(model, tmp_path / "x.gguf", preset, strict_types=True)
    plan_output(model, tmp_path / "x.gguf", find_preset("Q8_0"), strict_types=True)


@pytest.mark.parametrize("experts", [2, 3, 4, 8])
@pytest.mark.parametrize("tied", [False, True])
def test_both_expert_layouts_give_the_same_files(tmp_path: Path, experts: int, tied: bool) -> None:
    types = ["F32", "BF16", "F16", "Q8_0", "Q4_0", "Q4_K_M"]
    files = [
        converted(
            make_checkpoint(tmp_path / layout / "model", layout=layout, experts=experts, tied=tied),
            tmp_path / f"{layout}-out",
            types,
        )
        for layout in ("per-expert", "fused")
    ]
    assert [digest(path) for path in files[0]] == [digest(path) for path in files[1]]


def test_shards_threads_and_company_change_no_byte(tmp_path: Path) -> None:
    one = make_checkpoint(tmp_path / "one" / "model")
    many = make_checkpoint(tmp_path / "many" / "model", shards=5)
    together = converted(one, tmp_path / "a", ["F16", "Q8_0", "Q4_0"])
    threaded = converted(many, tmp_path / "b", ["F16", "Q8_0", "Q4_0"], threads=4)
    alone = converted(many, tmp_path / "c", ["Q4_0"])
    assert [digest(path) for path in together] == [digest(path) for path in threaded]
    assert digest(alone[0]) == digest(together[2])


def test_config_json_of_transformers_4_and_5_gives_the_same_file(tmp_path: Path) -> None:
    old = make_checkpoint(tmp_path / "old" / "model", transformers=4)
    new = make_checkpoint(tmp_path / "new" / "model", transformers=5)
    assert digest(converted(old, tmp_path / "a", ["Q8_0"])[0]) == digest(
        converted(new, tmp_path / "b", ["Q8_0"])[0]
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    experts=st.integers(2, 5),
    heads=st.sampled_from([(2, 1), (4, 4), (6, 2)]),
    head_dim=st.sampled_from([2, 16, 34]),
    feed_forward=st.integers(1, 5).map(lambda n: 32 * n),
    layers=st.integers(1, 3),
    name=st.sampled_from([name for name in QUANTS if name != "Q1_0"]),
    data=st.data(),
)
def test_any_shape_of_model_is_converted_as_llama_quantize_would(
    tmp_path_factory: pytest.TempPathFactory,
    experts: int,
    heads: tuple[int, int],
    head_dim: int,
    feed_forward: int,
    layers: int,
    name: str,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    checkpoint = make_checkpoint(
        folder / "model",
        experts=experts,
        heads=heads[0],
        kv_heads=heads[1],
        hidden=heads[0] * head_dim,
        feed_forward=feed_forward,
        layers=layers,
        layout=data.draw(st.sampled_from(["per-expert", "fused", "dense"])),
        tied=data.draw(st.booleans()),
    )
    lossless, ours = converted(checkpoint, folder / "ours", ["BF16", name])
    theirs = llama_quantize(lossless, folder / "theirs.gguf", PRESETS[name].file_type)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("name", ["F32", "BF16", *QUANTS])
def test_a_gguf_is_quantized_again_as_llama_quantize_would(tmp_path: Path, name: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", dtype="F16")
    (f16,) = converted(checkpoint, tmp_path / "f16", ["F16"])
    (ours,) = converted(f16, tmp_path / "ours", [name])
    theirs = llama_quantize(f16, tmp_path / "theirs.gguf", PRESETS[name].file_type)
    assert ours.name == f"model-{name}.gguf"
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_is_quantized_already_needs_leave_and_then_gives_llama_quantizes_bytes(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (q8,) = converted(checkpoint, tmp_path / "q8", ["Q8_0"])
    with pytest.raises(RecipeError, match=r"quantized already \(Q8_0\).*--allow-requantize"):
        converted(q8, tmp_path / "ours", ["Q4_0"])
    (ours,) = converted(q8, tmp_path / "ours", ["Q4_0"], allow_requantize=True)
    theirs = llama_quantize(
        q8, tmp_path / "theirs.gguf", PRESETS["Q4_0"].file_type, allow_requantize=True
    )
    assert ours.read_bytes() == theirs.read_bytes()


def test_copying_what_has_its_type_already_needs_no_leave_and_changes_no_block(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (q8,) = converted(checkpoint, tmp_path / "q8", ["Q8_0"])
    (again,) = converted(q8, tmp_path / "again", ["Q8_0"])
    assert again.read_bytes() == q8.read_bytes()


def test_flags_reach_the_file(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    overrides = Overrides((("ffn_down", Type.Q8_0),), token_embedding=Type.Q5_1, leave_output=True)
    lossless, ours = converted(checkpoint, tmp_path / "ours", ["BF16", "Q4_0"], overrides=overrides)
    plain = converted(checkpoint, tmp_path / "plain", ["BF16"])[0]
    theirs = llama_quantize(
        plain,
        tmp_path / "theirs.gguf",
        PRESETS["Q4_0"].file_type,
        tensor_types=overrides.tensor_types,
        token_embedding_type=Type.Q5_1,
        quantize_output_tensor=False,
    )
    assert ours.read_bytes() == theirs.read_bytes()
    assert read_header(lossless).tensors[2].type is Type.Q5_1


def test_names_with_spaces_and_other_scripts_work(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "Erzähler 物語 v2", shards=2)
    (path,) = converted(checkpoint, tmp_path / "aus gabe é", ["Q8_0"])
    assert path.name == "Erzähler 物語 v2-Q8_0.gguf"
    assert read_header(path).text("general.name")
