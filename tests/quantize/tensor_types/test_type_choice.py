"""Types: every preset chooses, tensor by tensor, what llama-quantize chooses."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, LlamaFileType

from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import f32, string, u32
from franken_gguf.quantize.tensor_types.type_choice import (
    Overrides,
    PolicyModel,
    Tensor,
    choose_types,
    file_order,
)
from franken_gguf.quantize.tensor_types.type_presets import (
    LLAMA_PRESETS,
    MOE_PRESETS,
    PRESETS,
    Type,
    find_preset,
    find_type,
)
from support.oracle import llama_quantize

UNWEIGHTED = [preset for preset in LLAMA_PRESETS.values() if not preset.without_imatrix]
NEEDING_IMATRIX = [preset for preset in LLAMA_PRESETS.values() if preset.without_imatrix]


def tensors(model: PolicyModel, cols: int, ff: int, tied: bool) -> list[Tensor]:
    """A model of the right names and divisibilities, small enough to quantize in no time."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (2, cols)}
    if not tied:
        shapes["output.weight"] = (2, cols)
    for n in range(model.layers):
        experts = (model.experts,) if model.experts else ()
        suffix = "_exps" if model.experts else ""
        shapes |= {
            f"blk.{n}.attn_norm.weight": (cols,),
            f"blk.{n}.attn_q.weight": (2, cols),
            f"blk.{n}.attn_k.weight": (2, cols),
            f"blk.{n}.attn_v.weight": (2, cols),
            f"blk.{n}.attn_output.weight": (2, cols),
            f"blk.{n}.ffn_up{suffix}.weight": (*experts, 2, cols),
            f"blk.{n}.ffn_gate{suffix}.weight": (*experts, 2, cols),
            f"blk.{n}.ffn_down{suffix}.weight": (*experts, 2, ff),
        }
        if model.experts:
            shapes[f"blk.{n}.ffn_gate_inp.weight"] = (model.experts, cols)
    return [
        Tensor(name, shape, Type.F32)
        for name, shape in sorted(shapes.items(), key=lambda i: file_order(i[0]))
    ]


def zeros_file(path: Path, model: PolicyModel, rows: list[Tensor], cols: int, ff: int) -> Path:
    """The GGUF of such a model, all weights zero."""
    metadata = {
        "general.architecture": string("llama"),
        "llama.block_count": u32(model.layers),
        "llama.context_length": u32(64),
        "llama.embedding_length": u32(cols),
        "llama.feed_forward_length": u32(ff),
        "llama.attention.head_count": u32(model.heads),
        "llama.attention.head_count_kv": u32(model.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.vocab_size": u32(2),
    }
    if model.experts:
        metadata |= {
            "llama.expert_count": u32(model.experts),
            "llama.expert_used_count": u32(2),
        }
    table, offset = [], 0
    for tensor in rows:
        table.append((tensor.name, tensor.shape, Type.F32, offset))
        offset += padded(4 * prod(tensor.shape))
    path.write_bytes(encode_header(metadata, table) + bytes(offset))
    return path


MODELS = {
    "4 experts": (PolicyModel(layers=17, experts=4, heads=8, kv_heads=2), 256, 512, False),
    "8 experts": (PolicyModel(layers=16, experts=8, heads=8, kv_heads=8), 256, 256, False),
    "2 experts, tied": (PolicyModel(layers=9, experts=2, heads=6, kv_heads=2), 256, 256, True),
    "dense": (PolicyModel(layers=33, experts=0, heads=4, kv_heads=4), 256, 256, False),
    "dense like a 70B": (PolicyModel(layers=80, experts=0, heads=8, kv_heads=1), 256, 256, False),
    "rows of 576": (PolicyModel(layers=8, experts=3, heads=9, kv_heads=3), 576, 1536, True),
    "rows of 96 and 40": (PolicyModel(layers=4, experts=4, heads=2, kv_heads=2), 96, 40, False),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_preset_chooses_what_llama_quantize_chooses(tmp_path: Path, kind: str) -> None:
    model, cols, ff, tied = MODELS[kind]
    rows = tensors(model, cols, ff, tied)
    source = zeros_file(tmp_path / "zeros.gguf", model, rows, cols, ff)
    ones = {t.name: np.ones(prod(t.shape[:-2]) * t.shape[-1], np.float32) for t in rows}
    for preset, weighted in [(p, False) for p in UNWEIGHTED] + [
        (p, True) for p in LLAMA_PRESETS.values()
    ]:
        imatrix = ones if weighted else None
        if preset.name == "Q1_0" and (cols % 128 or ff % 128):
            with pytest.raises(RecipeError, match="multiple of Q1_0's block of 128"):
                choose_types(rows, model, preset, has_imatrix=weighted)
            with pytest.raises(AssertionError):
                llama_quantize(source, tmp_path / "out.gguf", preset.file_type, imatrix=imatrix)
            continue
        target = llama_quantize(source, tmp_path / "out.gguf", preset.file_type, imatrix=imatrix)
        theirs = {tensor.name: tensor.type for tensor in read_header(target).tensors}
        choices = choose_types(rows, model, preset, has_imatrix=weighted)
        ours = {tensor.name: choice.type for tensor, choice in zip(rows, choices, strict=True)}
        assert ours == theirs, (preset.name, weighted)


@pytest.mark.parametrize("kind", MODELS)
def test_a_preset_is_refused_without_an_imatrix_where_llama_quantize_refuses_it(
    tmp_path: Path, kind: str
) -> None:
    model, cols, ff, tied = MODELS[kind]
    rows = tensors(model, cols, ff, tied)
    source = zeros_file(tmp_path / "zeros.gguf", model, rows, cols, ff)
    for preset in NEEDING_IMATRIX:
        with suppress(RecipeError):
            choose_types(rows, model, preset)
            llama_quantize(source, tmp_path / "out.gguf", preset.file_type)
            continue
        with pytest.raises(AssertionError):
            llama_quantize(source, tmp_path / "out.gguf", preset.file_type)


def test_a_refusal_without_an_imatrix_names_the_tensor_its_type_and_a_way_out() -> None:
    model, cols, ff, tied = MODELS["4 experts"]
    rows = tensors(model, cols, ff, tied)
    for name, told in {
        "Q2_K_S": r"'blk\.0\.attn_k\.weight' in Q2_K needs .* --imatrix FILE or use Q2_K",
        "IQ2_XXS": r"'blk\.0\.attn_k\.weight' in IQ2_XXS needs .* --imatrix FILE or use Q2_K",
        "IQ3_XS": r"'blk\.0\.attn_k\.weight' in IQ3_XXS needs .* --imatrix FILE or use IQ3_S",
    }.items():
        with pytest.raises(RecipeError, match=told):
            choose_types(rows, model, PRESETS[name])
    embeddings = Overrides(token_embedding=Type.IQ1_S)
    with pytest.raises(RecipeError, match=r"'token_embd\.weight' in IQ1_S needs"):
        choose_types(rows, model, PRESETS["Q4_0"], embeddings)


@pytest.mark.parametrize(
    ("overrides", "params"),
    [
        (Overrides(leave_output=True), {"quantize_output_tensor": False}),
        (Overrides(output=Type.Q8_0), {"output_tensor_type": Type.Q8_0}),
        (Overrides(token_embedding=Type.Q5_1), {"token_embedding_type": Type.Q5_1}),
        (Overrides(pure=True), {"pure": True}),
        (
            Overrides((("FFN_DOWN", Type.Q6_K), (r"blk\.[01]\.attn", Type.Q8_0))),
            {"tensor_types": (("ffn_down", Type.Q6_K), (r"blk\.[01]\.attn", Type.Q8_0))},
        ),
    ],
)
@pytest.mark.parametrize("kind", ["4 experts", "2 experts, tied", "dense"])
def test_the_flags_overrule_a_preset_as_in_llama_quantize(
    tmp_path: Path, kind: str, overrides: Overrides, params: dict[str, Any]
) -> None:
    model, cols, ff, tied = MODELS[kind]
    rows = tensors(model, cols, ff, tied)
    source = zeros_file(tmp_path / "zeros.gguf", model, rows, cols, ff)
    for name in ("Q4_K_M", "Q4_0", "Q8_0", "F16"):
        preset = PRESETS[name]
        target = llama_quantize(source, tmp_path / "out.gguf", preset.file_type, **params)
        theirs = [tensor.type for tensor in read_header(target).tensors]
        ours = [choice.type for choice in choose_types(rows, model, preset, overrides)]
        assert ours == theirs, name


def test_a_fallback_remembers_what_was_wanted() -> None:
    model, cols, ff, tied = MODELS["rows of 576"]
    rows = tensors(model, cols, ff, tied)
    choices = choose_types(rows, model, PRESETS["Q4_K_M"])
    by_name = {tensor.name: choice for tensor, choice in zip(rows, choices, strict=True)}
    attn_q = by_name["blk.0.attn_q.weight"]
    assert (attn_q.wanted, attn_q.type, attn_q.fell_back) == (Type.Q4_K, Type.Q5_0, True)
    assert not by_name["blk.4.ffn_down_exps.weight"].fell_back


def test_names_are_found_in_any_case_and_by_their_short_forms() -> None:
    assert find_preset("q4_k_m") is PRESETS["Q4_K_M"]
    assert find_preset("Q4_K") is PRESETS["Q4_K_M"]
    assert find_type("q6_k") is GGMLQuantizationType.Q6_K
    assert PRESETS["Q4_K_M"].file_type is LlamaFileType.MOSTLY_Q4_K_M


def test_a_name_that_does_not_exist_lists_the_nearest_first() -> None:
    with pytest.raises(RecipeError, match=r"unknown type 'Q4_K_X'; known types: Q4_K_S, Q4_K_M, "):
        find_preset("Q4_K_X")
    with pytest.raises(RecipeError, match=r"unknown tensor type 'Q6K'; known types: Q6_K, "):
        find_type("Q6K")


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    model, cols, ff, tied = MODELS["dense"]
    rows = tensors(model, cols, ff, tied)
    with pytest.raises(RecipeError, match=r"'ffn_downn' matches no tensor"):
        choose_types(rows, model, PRESETS["Q4_0"], Overrides((("ffn_downn", Type.Q6_K),)))
    with pytest.raises(RecipeError, match=r"'\(' is not a valid"):
        Overrides((("(", Type.Q6_K),))


def test_an_explicit_type_that_does_not_fit_is_refused_and_not_replaced() -> None:
    model, cols, ff, tied = MODELS["rows of 576"]
    rows = tensors(model, cols, ff, tied)
    for overrides in (Overrides(pure=True), Overrides(token_embedding=Type.Q4_K)):
        with pytest.raises(
            RecipeError, match=r"rows of 576 .* not a multiple of Q4_K's block of 256"
        ):
            choose_types(rows, model, PRESETS["Q4_K_M"], overrides)


@pytest.mark.parametrize("kind", ["4 experts", "2 experts, tied", "rows of 576"])
@pytest.mark.parametrize("name", MOE_PRESETS)
def test_a_moe_preset_is_a_llama_preset_with_its_exceptions(
    tmp_path: Path, kind: str, name: str
) -> None:
    model, cols, ff, tied = MODELS[kind]
    rows = tensors(model, cols, ff, tied)
    source = zeros_file(tmp_path / "zeros.gguf", model, rows, cols, ff)
    preset = MOE_PRESETS[name]
    overrides = [(part.replace(".", r"\."), type_) for part, type_ in preset.exceptions]
    target = llama_quantize(source, tmp_path / "out.gguf", preset.file_type, tensor_types=overrides)
    theirs = [tensor.type for tensor in read_header(target).tensors]
    assert [choice.type for choice in choose_types(rows, model, preset)] == theirs


def test_a_moe_preset_is_not_for_a_dense_model() -> None:
    model, cols, ff, tied = MODELS["dense"]
    with pytest.raises(RecipeError, match="Q4_K_MOE is for mixtures of experts; use Q4_K_M"):
        choose_types(tensors(model, cols, ff, tied), model, PRESETS["Q4_K_MOE"])
