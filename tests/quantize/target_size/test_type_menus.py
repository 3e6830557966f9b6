"""The menu of types of a tensor, and what each is predicted to cost."""

from __future__ import annotations

import pytest

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
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
    assert probe_type(wide, {"Q3_K": 0.02, "Q6_K": 0.005}) is Type.Q3_K
    measured = Measurements({wide.name: {"Q3_K": 0.02, "Q6_K": 0.005}}, {wide.name: 0.1})
    (options,) = menus([wide], measured)
    assert {option.type.name: option.cost for option in options} == {"Q3_K": 0.1, "Q6_K": 0.025}


def test_what_chosen_codes_leave_of_an_error_scales_its_cost() -> None:
    wide = tensor(256, Type.F16)
    errors = {wide.name: {"Q3_K": 0.02, "Q6_K": 0.005}}
    measured = Measurements(errors, {wide.name: 0.1}, {wide.name: {"Q6_K": 0.5}})
    (options,) = menus([wide], measured)
    assert {option.type.name: option.cost for option in options} == {"Q3_K": 0.1, "Q6_K": 0.0125}


def test_experts_that_stay_in_ram_get_no_type_that_is_slow_on_cpus() -> None:
    name = "blk.0.ffn_up_exps.weight"
    piece = Piece(name, 0, 64)
    experts = SourceTensor(name, (1, 64, 256), (piece,), 0, Type.F16, Type.F16)
    others = tensor(256, Type.F16)
    errors = {kind.name: 0.01 for kind in possible_types(others, weighted=True)}
    measured = Measurements({name: errors, others.name: errors}, {name: 0.1, others.name: 0.1})
    usual = menus([experts, others], measured)
    in_ram = menus([experts, others], measured, cpu_moe=True)
    assert in_ram[1] == usual[1]
    assert {o.type.name for o in usual[0]} - {o.type.name for o in in_ram[0]} == SLOW_ON_CPU


def test_the_smallest_types_of_a_grid_need_an_importance_matrix() -> None:
    wide = tensor(256, Type.F16)
    needed = set(possible_types(wide, weighted=True)) - set(possible_types(wide, weighted=False))
    names = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
    assert {kind.name for kind in needed} == set(names)


def test_a_type_that_is_far_off_is_not_the_one_that_is_run() -> None:
    errors = {"Q3_K": 0.7, "Q4_0": 0.6, "Q2_K": 0.006, "Q4_K": 0.0004, "IQ1_S": 0.04, "F16": 0.0}
    wide = tensor(256, Type.F16)
    assert probe_type(wide, errors) is Type.Q2_K
    measured = Measurements({wide.name: errors}, {wide.name: 0.03})
    (options,) = menus([wide], measured)
    costs = {option.type.name: option.cost for option in options}
    assert (costs["Q2_K"], costs["Q3_K"]) == (0.03, 0.03 / 0.006 * 0.05), "which costs no more"
    assert costs["Q4_K"] == 0.03 / 0.006 * 0.0004


def test_where_every_type_is_far_off_the_usual_one_is_run() -> None:
    assert probe_type(tensor(256, Type.F16), {"Q3_K": 0.7, "Q4_K": 0.2, "F16": 0.0}) is Type.Q3_K
