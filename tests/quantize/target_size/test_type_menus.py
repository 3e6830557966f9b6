"""The menu of types of a tensor, and what each is predicted to cost."""

from __future__ import annotations

import pytest

from franken_gguf.quantize.checkpoint.name_mapping import Piece, SourceTensor
from franken_gguf.quantize.target_size.measurements import Measurements
from franken_gguf.quantize.target_size.type_menus import menus, possible_types, probe_type
from franken_gguf.quantize.tensor_types.type_presets import Type


def tensor(cols: int, stored: Type) -> SourceTensor:
    name = "blk.0.ffn_down_shexp.weight"
    return SourceTensor(name, (64, cols), (Piece(name, 0, 64),), 0, stored, stored)


@pytest.mark.parametrize("stored", [Type.BF16, Type.F16])
def test_a_tensor_whose_rows_fit_no_block_stays_as_it_is_at_no_cost(stored: Type) -> None:
    narrow = tensor(80, stored)
    assert possible_types(narrow, weighted=True) == (stored,)
    measured = Measurements({narrow.name: {stored.name: 0.0}}, {narrow.name: 0.0})
    ((option,),) = menus([narrow], measured)
    assert (option.type, option.nbytes, option.cost) == (stored, 64 * 80 * 2, 0.0)


def test_costs_are_scaled_from_the_type_that_was_run() -> None:
    wide = tensor(256, Type.F16)
    assert probe_type(wide) is Type.Q3_K
    measured = Measurements({wide.name: {"Q3_K": 0.02, "Q6_K": 0.005}}, {wide.name: 0.1})
    (options,) = menus([wide], measured)
    assert {option.type.name: option.cost for option in options} == {"Q3_K": 0.1, "Q6_K": 0.025}


def test_types_that_llama_quantize_refuses_without_an_importance_matrix_need_one() -> None:
    wide = tensor(256, Type.F16)
    needed = set(possible_types(wide, weighted=True)) - set(possible_types(wide, weighted=False))
    assert {kind.name for kind in needed} == {
        "IQ1_S",
        "IQ1_M",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ2_S",
        "IQ3_XXS",
    }
