"""Codes chosen together: bytes other than the codes stay, and the quadratic form only falls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.code_planes import (
    LAYOUTS,
    offsets_and_steps,
    read_codes,
    with_codes,
)
from franken_gguf.quantize.blocks.code_refinement import REFINABLE, refined
from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.blocks.moments import output_error, prepared
from support.codes import codes_of, without_codes

F32 = NDArray[np.float32]
ROWS, COLS, GROUP = 40, 512, 256
each_format = pytest.mark.parametrize("name", sorted(REFINABLE))
each_with_single_codes = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture(scope="module")
def weights() -> F32:
    rows = np.random.default_rng(0).standard_normal((ROWS, COLS)).astype(np.float32)
    rows[3] = 0
    rows[4, :GROUP] = 0
    rows[5] *= 1e-6
    return rows


@pytest.fixture(scope="module")
def inputs() -> F32:
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((2000, 64)) @ rng.standard_normal((64, COLS))
    mixed[:, 7] = 0
    return (mixed + rng.standard_normal((2000, COLS))).astype(np.float32)


def quantized(name: str, weights: F32) -> NDArray[np.uint8]:
    alike = np.ones(weights.shape[1], np.float32)
    return FORMATS[name].quantize(weights, alike if FORMATS[name].needs_importance else None)


def moments_of(inputs: F32) -> list[F32]:
    groups = np.split(inputs, COLS // GROUP, axis=1)
    return [group.T @ group / np.float32(len(group)) for group in groups]


def forms(errors: F32, moments: list[F32]) -> NDArray[np.float64]:
    """Of each row and group, in double precision."""
    pairs = zip(np.split(errors, COLS // GROUP, axis=1), moments, strict=True)
    return np.stack([np.einsum("ij,jk,ik->i", e, m, e, dtype=np.float64) for e, m in pairs])


@each_with_single_codes
def test_codes_are_read_and_written_back_byte_by_byte(name: str) -> None:
    codec = FORMATS[name]
    blocks = np.random.default_rng(2).integers(0, 256, (8, codec.row_bytes(COLS)), np.uint8)
    assert np.array_equal(with_codes(name, blocks, read_codes(name, blocks)), blocks)


@each_with_single_codes
def test_offset_step_and_code_give_the_weight_that_the_format_does(name: str, weights: F32) -> None:
    blocks = FORMATS[name].quantize(weights, None)
    codes, values = read_codes(name, blocks), LAYOUTS[name].values
    offset, step = offsets_and_steps(name, blocks)
    found = offset + step * (codes if values is None else values[codes])
    np.testing.assert_allclose(found, FORMATS[name].dequantize(blocks), rtol=0, atol=1e-6)


@each_format
def test_only_codes_change(name: str, weights: F32, inputs: F32) -> None:
    blocks = quantized(name, weights)
    new = refined(name, weights, blocks, prepared(moments_of(inputs)))
    assert not np.array_equal(new, blocks)
    assert np.array_equal(without_codes(name, new), without_codes(name, blocks))


@each_format
def test_no_row_gets_a_higher_quadratic_form_and_nearly_all_a_lower_one(
    name: str, weights: F32, inputs: F32
) -> None:
    dequantize = FORMATS[name].dequantize
    blocks = FORMATS[name].quantize(weights, np.square(inputs).mean(axis=0))
    prepared_moments = prepared(moments_of(inputs))
    judged = list(prepared_moments.forms)
    before = forms(dequantize(blocks) - weights, judged)
    after = forms(dequantize(refined(name, weights, blocks, prepared_moments)) - weights, judged)
    assert (after <= before * (1 + 1e-5)).all()
    assert (after < before * 0.95).mean() > 0.9


@each_with_single_codes
def test_when_columns_are_independent_each_weight_gets_its_nearest_code(
    name: str, weights: F32
) -> None:
    blocks = FORMATS[name].quantize(weights, None)
    alone = prepared([np.eye(GROUP, dtype=np.float32)] * (COLS // GROUP), damping=0)
    new = FORMATS[name].dequantize(refined(name, weights, blocks, alone))
    every = [
        FORMATS[name].dequantize(with_codes(name, blocks, np.full(weights.shape, code, np.uint8)))
        for code in range(LAYOUTS[name].top + 1)
    ]
    nearest = np.abs(np.stack(every) - weights).min(axis=0)
    np.testing.assert_allclose(np.abs(new - weights), nearest, rtol=0, atol=1e-6)


@each_format
def test_a_group_without_inputs_keeps_its_codes(name: str, weights: F32, inputs: F32) -> None:
    blocks = quantized(name, weights)
    before = np.split(codes_of(name, blocks), 2, axis=1)
    silent, heard = np.zeros((GROUP, GROUP), np.float32), moments_of(inputs)[1]
    for nothing in (silent, None):
        new = refined(name, weights, blocks, prepared([nothing, heard]))
        after = np.split(codes_of(name, new), 2, axis=1)
        assert np.array_equal(after[0], before[0])
        assert not np.array_equal(after[1], before[1])
    assert refined(name, weights, blocks, prepared([silent, None])) is blocks


@pytest.mark.parametrize("name", ["Q4_K", "IQ2_XXS"])
def test_rows_are_chosen_alike_alone_and_among_others(name: str, weights: F32, inputs: F32) -> None:
    many = np.tile(weights, (60, 1))
    blocks = quantized(name, many)
    moments = prepared(moments_of(inputs))
    together = refined(name, many, blocks, moments)
    alone = [refined(name, many[n : n + 1], blocks[n : n + 1], moments)[0] for n in range(ROWS)]
    # Matrix products may be rounded otherwise in another size, and decide between equal codes.
    assert (together.reshape(60, ROWS, -1) == np.stack(alone)).mean() > 0.99


def test_the_error_of_outputs_is_that_of_inputs_multiplied(weights: F32, inputs: F32) -> None:
    exact = prepared(moments_of(inputs), shrinkage=0, damping=0)
    errors = weights * np.float32(0.01)
    groups = zip(np.split(inputs, 2, axis=1), np.split(errors, 2, axis=1), strict=True)
    off = sum(float(np.square(x.astype(np.float64) @ e.T).sum()) / len(x) for x, e in groups)
    assert output_error(errors, exact) == pytest.approx(off, rel=1e-4)
