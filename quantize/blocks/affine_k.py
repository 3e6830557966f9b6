"""What Q2_K, Q4_K and Q5_K share: small blocks with a scale and a minimum each, ggml's bytes.

Source of every formula: quantize_row_q*_K_ref (plain) and _impl (with an importance matrix) in
llama.cpp's ggml/src/ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .columns import F32, U8, add_rows, c_arithmetic, from_half, half
from .search_affine import Affine, Grid, affine_codes, search_affine
from .search_refined import search_unsigned
from .subblocks import SUPER, round_as_ggml, round_to_codes, sub_block_chunks, sum_of_squares, weigh

# Super-blocks whose scales are rounded together: the weighted search for them is a loop over few
# numbers, which pays for many columns only.
_BATCH = 4096


class Kind(NamedTuple):
    """What differs between the formats."""

    block_bytes: int
    length: int
    """Weights in a small block."""
    top: int
    """The largest code of a scale or a minimum."""
    plain: Grid
    weighted: Grid
    sigma2: float
    """Factor of a super-block's mean square in ggml's weights under an importance matrix."""
    chunk: int
    """Super-blocks searched at once."""
    stored: Callable[[U8, U8], tuple[U8, U8]]
    """Scales and minimums [blocks, n] as decoded from the bytes that ggml writes for codes beyond
    `top`. Its weighted search makes such codes from negative scales, which a fit can give for
    blocks whose importance is nearly 0."""


class Blocks(NamedTuple):
    """n super-blocks, quantized."""

    codes: U8
    """[length, blocks, n]"""
    scales: U8
    """[blocks, n]"""
    minimums: U8
    """[blocks, n]"""
    d: U8
    """[n, 2], F16"""
    dmin: U8
    """[n, 2], F16"""


def quantized_chunks(
    rows: F32, importance: F32 | None, kind: Kind
) -> Iterator[tuple[slice, Blocks]]:
    """(which super-blocks, their codes), batch by batch: search, round the scales, code again."""
    total = rows.size // SUPER
    levels = kind.plain.levels
    for start in range(0, total, _BATCH):
        batch = slice(start, min(start + _BATCH, total))
        found, strength = _search(rows, importance, kind, batch)
        lows = -found.minimum
        if importance is None:
            scales, d = _round_scales(found.scale, kind.top)
            minimums, dmin = _round_scales(lows, kind.top)
        else:
            scales, d = _fit_scales(found.scale, strength, kind.top)
            minimums, dmin = _fit_scales(lows, strength, kind.top)
            if scales.max() > kind.top:
                scales, minimums = kind.stored(scales, minimums)
        steps, offsets = from_half(d).T * scales, from_half(dmin).T * minimums
        for blocks, x, _ in sub_block_chunks(rows, kind.length, kind.chunk, within=batch):
            part = slice(blocks.start - start, blocks.stop - start)
            searched = Affine(*(field[:, part].reshape(-1) for field in found))
            codes = _final_codes(x, searched, steps[:, part], offsets[:, part], levels)
            yield (
                blocks,
                Blocks(codes, scales[:, part], minimums[:, part], d[part], dmin[part]),
            )


def _search(rows: F32, importance: F32 | None, kind: Kind, batch: slice) -> tuple[Affine, F32]:
    """Scales and minimums of a batch, and the sums of the weights of their blocks: [blocks, n]."""
    length = kind.length
    table = rows.reshape(-1, SUPER)
    results = np.empty((5, SUPER // length, batch.stop - batch.start), np.float32)
    for blocks, x, spread in sub_block_chunks(rows, length, kind.chunk, importance, within=batch):
        columns = x.reshape(length, -1)
        if spread is None:
            weights, grid = _plain_weights(columns, kind.plain.absolute), kind.plain
        else:
            sigma2 = sum_of_squares(table[blocks]) * np.float32(kind.sigma2 / SUPER)
            weights, grid = weigh(x, spread, sigma2).reshape(length, -1), kind.weighted
        part = results[..., blocks.start - batch.start : blocks.stop - batch.start]
        found = search_affine(columns, weights, grid)
        part[...] = np.stack([*found, add_rows(weights)]).reshape(part.shape)
    return Affine(*results[:4]), results[4]


def _plain_weights(x: F32, absolute: bool) -> F32:
    """Larger weights count more: |x|, plus the root of the block's mean square if not `absolute`.

    x is [length, n].
    """
    weights: F32 = np.abs(x)
    if not absolute:
        mean: F32 = add_rows(x * x)
        mean /= np.float32(len(x))
        weights += np.sqrt(mean, out=mean)
    return weights


def _fit_scales(scales: F32, strength: F32, top: int) -> tuple[U8, U8]:
    """As `_round_scales`, by a search that weights each scale by its block's sum of weights."""
    unit, codes = search_unsigned(scales, strength, top)
    return codes.astype(np.uint8), half(unit)


def _round_scales(scales: F32, top: int) -> tuple[U8, U8]:
    """float32 [blocks, n] to (codes 0..top as uint8, their unit as F16 [n, 2])."""
    largest = np.fmax.reduce(scales, axis=0, initial=np.float32(0))
    largest += np.float32(0)  # -0, of a block whose minimums are all 0, is +0 in C
    inverse = np.divide(np.float32(top), largest, out=np.zeros_like(largest), where=largest > 0)
    codes = scales * inverse
    round_as_ggml(codes)
    wrapped = codes.astype(np.int32).astype(np.uint8)  # a negative scale wraps, as in C
    return np.minimum(wrapped, np.uint8(top), out=wrapped), half(largest / np.float32(top))


def _final_codes(x: F32, found: Affine, d: F32, m: F32, levels: int) -> U8:
    """The codes under the rounded scales; where a scale became 0, those of the search.

    x [length, blocks, n]; d and m [blocks, n].
    """
    codes = x + m
    np.divide(codes, d, out=codes)
    (dead,) = np.nonzero(d.reshape(-1) == 0)
    flat = codes.reshape(len(x), -1)
    if dead.size:
        kept = np.empty((len(x), dead.size), np.float32)
        columns = x.reshape(len(x), -1)[:, dead]
        affine_codes(columns, found.inverse[dead], found.base[dead], levels, kept)
        flat[:, dead] = kept
    round_to_codes(codes, 0, levels)
    return codes.astype(np.uint8)


def weights_of(d: U8, dmin: U8, scales: U8, minimums: U8, codes: U8) -> F32:
    """d * scale * code - dmin * minimum, float32 [n, blocks, length], for the dequantizers.

    d and dmin [n, 2], F16; scales and minimums [n, blocks]; codes [n, blocks, length].
    """
    with c_arithmetic():
        weights = (from_half(d) * scales)[..., None] * codes
        weights -= (from_half(dmin) * minimums)[..., None]
    return weights
