"""The menu of types of a tensor, and what each is predicted to cost."""

from __future__ import annotations

import pytest

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
from franken_gguf.quantize.checkpoint.name_mapping import Piece, SourceTensor
from franken_gguf.quantize.target_size.measurements import Measurements
from franken_gguf.quantize.target_size.type_menus import menus, possible_types, probe_type
from franken_gguf.quantize.tensor_types.type_presets import Type

LAYERS = (0, 1, 2, 9, 10)


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


@pytest.mark.parametrize(
    ("n_cpu_moe", "restricted"),
    [(0, []), (1, [0]), (2, [0, 1]), (10, [0, 1, 2, 9]), (11, [0, 1, 2, 9, 10]), (99, [*LAYERS])],
)
def test_experts_of_the_first_layers_alone_get_no_type_that_is_slow_on_cpus(
    n_cpu_moe: int, restricted: list[int]
) -> None:
    names = [f"blk.{layer}.ffn_up_exps.weight" for layer in LAYERS]
    experts = [
        SourceTensor(name, (1, 64, 256), (Piece(name, 0, 64),), 0, Type.F16, Type.F16)
        for name in names
    ]
    others = tensor(256, Type.F16)
    errors = {kind.name: 0.01 for kind in possible_types(others, weighted=True)}
    every = [*names, others.name]
    measured = Measurements(dict.fromkeys(every, errors), dict.fromkeys(every, 0.1))
    *found, of_others = menus([*experts, others], measured, n_cpu_moe=n_cpu_moe)
    assert {option.type.name for option in of_others} == errors.keys() > SLOW_ON_CPU
    missing = [errors.keys() - {option.type.name for option in menu} for menu in found]
    assert dict(zip(LAYERS, missing, strict=True)) == {
        layer: SLOW_ON_CPU if layer in restricted else set() for layer in LAYERS
    }


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
