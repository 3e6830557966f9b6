"""Block formats: ggml's bytes on every kind of row, and gguf-py's numbers back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS, BlockFormat
from franken_gguf.quantize.common.errors import RecipeError
from support.ggml import HAS_EXACT_GGML, ggml_dequantize, ggml_quantize

F32 = NDArray[np.float32]
BLOCKS = [codec for codec in FORMATS.values() if codec.block_len > 1 and not codec.needs_importance]
NEEDING_IMPORTANCE = [codec for codec in FORMATS.values() if codec.needs_importance]
each_block_format = pytest.mark.parametrize("codec", BLOCKS, ids=lambda codec: codec.name)
GRID_FORMATS = [codec for codec in BLOCKS if codec.name.startswith(("IQ1", "IQ2", "IQ3"))]
"""Their searches are slow, ggml's too."""
each_quick_format = pytest.mark.parametrize(
    "codec",
    [codec for codec in BLOCKS if codec not in GRID_FORMATS],
    ids=lambda codec: codec.name,
)
each_format = pytest.mark.parametrize("codec", FORMATS.values(), ids=lambda codec: codec.name)

ROWS, COLS = 24, 768

Draw = Callable[[np.random.Generator], NDArray[np.floating]]


def normal(rng: np.random.Generator) -> NDArray[np.floating]:
    return rng.standard_normal((ROWS, COLS))


KINDS: dict[str, Draw] = {
    "bell-shaped": normal,
    "heavy-tailed": lambda rng: rng.standard_cauchy((ROWS, COLS)),
    "all zero": lambda rng: np.zeros((ROWS, COLS)),
    "zeros of both signs": lambda rng: rng.choice([0.0, -0.0], (ROWS, COLS)),
    "constant": lambda rng: np.repeat(rng.standard_normal((ROWS, 1)), COLS, axis=1),
    "positive": lambda rng: np.abs(normal(rng)),
    "negative": lambda rng: -np.abs(normal(rng)),
    "positive or zeros of both signs": lambda rng: (
        np.maximum(normal(rng), 0) * rng.choice([1, -1], COLS)
    ),
    "mostly zero": lambda rng: normal(rng) * (rng.random((ROWS, COLS)) < 0.03),
    "equal magnitudes": lambda rng: rng.choice([-1.0, 1.0], (ROWS, COLS)),
    "few values": lambda rng: rng.integers(-3, 4, (ROWS, COLS)).astype(float),
    "halfway between codes": lambda rng: rng.integers(-254, 255, (ROWS, COLS)) / 2,
    "subnormal": lambda rng: normal(rng) * 1e-40,
    "below ggml's epsilon and above": lambda rng: (
        normal(rng) * 10.0 ** rng.uniform(-18, -12, (ROWS, 1))
    ),
    "with scales that are subnormal in F16": lambda rng: normal(rng) * 1e-6,
    "with scales beyond F16": lambda rng: normal(rng) * 1e7,
    "with squares beyond F32": lambda rng: normal(rng) * 1e30,
    "as large as F32 can be": lambda rng: rng.choice([-1, 1], (ROWS, COLS)) * 3.4e38,
    "small beside one outlier": lambda rng: normal(rng) + 1000 * (rng.random((ROWS, COLS)) < 0.005),
}


# Sums overflow, and ggml's searches on a grid find no nearest point.
ABORTING_GGML = ("with squares beyond F32", "as large as F32 can be")


@each_format
def test_sizes_and_numbers_are_gguf_pys(codec: BlockFormat) -> None:
    kind = GGMLQuantizationType[codec.name]
    assert codec.type_id == kind
    assert (codec.block_len, codec.block_bytes) == GGML_QUANT_SIZES[kind]


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
@pytest.mark.parametrize("kind", KINDS)
@each_quick_format
def test_blocks_are_ggmls_byte_for_byte(codec: BlockFormat, kind: str) -> None:
    rows = KINDS[kind](np.random.default_rng(7)).astype(np.float32)
    before = rows.copy()
    assert codec.quantize(rows, None).tobytes() == ggml_quantize(codec, rows).tobytes()
    assert rows.tobytes() == before.tobytes(), "the caller's rows were changed"


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
@pytest.mark.parametrize("codec", GRID_FORMATS, ids=lambda codec: codec.name)
def test_blocks_on_a_grid_are_ggmls_byte_for_byte_on_all_kinds_of_rows(codec: BlockFormat) -> None:
    for kind in KINDS.keys() - ABORTING_GGML:
        rows = KINDS[kind](np.random.default_rng(7))[:3].astype(np.float32)
        assert codec.quantize(rows, None).tobytes() == ggml_quantize(codec, rows).tobytes(), kind


@pytest.mark.parametrize("kind", ABORTING_GGML)
@pytest.mark.parametrize("codec", GRID_FORMATS, ids=lambda codec: codec.name)
def test_rows_on_which_ggml_aborts_become_blocks(codec: BlockFormat, kind: str) -> None:
    rows = KINDS[kind](np.random.default_rng(7)).astype(np.float32)
    assert codec.quantize(rows, None).shape == (ROWS, codec.row_bytes(COLS))


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
@pytest.mark.parametrize("codec", GRID_FORMATS, ids=lambda codec: codec.name)
def test_more_blocks_on_a_grid_than_are_searched_at_once_are_ggmls(codec: BlockFormat) -> None:
    rows = np.random.default_rng(4).standard_normal((2100, 256)).astype(np.float32)
    assert codec.quantize(rows, None).tobytes() == ggml_quantize(codec, rows).tobytes()


@each_block_format
def test_blocks_are_as_near_to_the_weights_as_ggmls(codec: BlockFormat) -> None:
    rows = normal(np.random.default_rng(7)).astype(np.float32)
    ours = codec.dequantize(codec.quantize(rows, None)) - rows
    theirs = codec.dequantize(ggml_quantize(codec, rows)) - rows
    assert np.square(ours).mean() <= 1.001 * np.square(theirs).mean()


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
@settings(max_examples=40, deadline=None)
@given(st.data())
@each_block_format
def test_any_number_of_rows_of_any_length_is_quantized_alike(
    codec: BlockFormat, data: st.DataObject
) -> None:
    rows = data.draw(st.sampled_from([0, 1, 2, 3] + [129, 700] * (codec not in GRID_FORMATS)))
    cols = codec.block_len * data.draw(st.integers(1, 9))
    values = np.random.default_rng(rows + cols).standard_normal((rows, cols)).astype(np.float32)
    assert codec.quantize(values, None).tobytes() == ggml_quantize(codec, values).tobytes()


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
@settings(max_examples=60, deadline=None)
@given(st.data())
@each_block_format
def test_any_finite_weights_are_quantized_alike(codec: BlockFormat, data: st.DataObject) -> None:
    elements = st.floats(-(2.0**16), 2.0**16, width=32) | st.sampled_from(
        [0.0, -0.0, 1.0, -1.0, 2.0**-149]
    )
    rows = data.draw(hnp.arrays(np.float32, (2, codec.block_len), elements=elements))
    assert codec.quantize(rows, None).tobytes() == ggml_quantize(codec, rows).tobytes()


UNKNOWN_TO_GGUF_PY = ("Q1_0",)


@each_format
def test_dequantized_numbers_are_gguf_pys_or_ggmls(codec: BlockFormat) -> None:
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, (5, 3 * codec.block_bytes), np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        ours = codec.dequantize(blocks)
        if codec.name in UNKNOWN_TO_GGUF_PY:
            theirs = ggml_dequantize(codec, blocks)
        else:
            theirs = quants.dequantize(blocks, GGMLQuantizationType[codec.name])
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float32
    assert ours.shape == (5, 3 * codec.block_len)


@each_format
def test_no_rows_are_no_blocks(codec: BlockFormat) -> None:
    importance = np.ones(codec.block_len, np.float32)
    assert codec.quantize(np.empty((0, codec.block_len), np.float32), importance).size == 0
    assert codec.dequantize(np.empty((0, codec.block_bytes), np.uint8)).size == 0


@pytest.mark.parametrize("codec", NEEDING_IMPORTANCE, ids=lambda codec: codec.name)
def test_a_type_that_ggml_cannot_make_without_importance_is_refused(codec: BlockFormat) -> None:
    with pytest.raises(RecipeError, match=f"{codec.name}.* an importance matrix; add --imatrix"):
        codec.quantize(np.zeros((1, 256), np.float32), None)


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding")
def test_mxfp4_takes_the_exponent_of_ggml_next_to_every_power_of_two() -> None:
    codec = FORMATS["MXFP4"]
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    near = powers.view(np.int32)[:, None] + np.arange(-40, 41, dtype=np.int32)
    largest = near[(near > 0) & (near < 0x7F800000)].view(np.float32)
    rows = np.linspace(1, -1, 32, dtype=np.float32) * largest[:, None]
    assert codec.quantize(rows, None).tobytes() == ggml_quantize(codec, rows).tobytes()


def test_bf16_rounds_to_even_and_keeps_nan() -> None:
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800001, 0xFFC00000, 0x80000001],
        np.uint32,
    )
    codec = FORMATS["BF16"]
    found = codec.quantize(bits.view(np.float32).reshape(1, -1), None).view("<u2")[0].tolist()
    assert found == [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7FC0, 0xFFC0, 0x8000]


@given(hnp.arrays(np.float32, (3, 8), elements=st.floats(width=32)))
def test_floats_come_back_as_numpy_rounds_them(rows: F32) -> None:
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16).astype(np.float32)
    for name, expected in (("F32", rows), ("F16", half)):
        codec = FORMATS[name]
        np.testing.assert_array_equal(codec.dequantize(codec.quantize(rows, None)), expected)


def test_a_row_that_is_not_a_multiple_of_the_block_has_no_size() -> None:
    with pytest.raises(ValueError, match="33 columns are not a multiple of Q8_0's block of 32"):
        FORMATS["Q8_0"].row_bytes(33)


def test_every_half_there_is_becomes_the_float_that_numpy_makes_of_it() -> None:
    halves = np.arange(1 << 16, dtype="<u2").reshape(-1, 256)
    expected = halves.view("<f2").astype(np.float32)
    found = FORMATS["F16"].dequantize(halves.view(np.uint8))
    assert found.tobytes() == expected.tobytes()
    finite = halves[np.isfinite(expected).all(axis=1)]
    found = FORMATS["F16"].dequantize(finite.view(np.uint8))
    assert found.tobytes() == finite.view("<f2").astype(np.float32).tobytes()
    assert len(finite) == 248
