"""What the i-quants of 2 and 3 bits share: signs kept apart, and scales as odd numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, reciprocal
from .subblocks import round_to_codes

_BITS = np.arange(8, dtype=np.uint8)


def split_signs(x: F32, w: F32, even: bool) -> tuple[F32, U8]:
    """[8, vectors, n] to magnitudes likewise and signs, a bit each, uint8 [vectors, n].

    With `even` each vector has an even number of minus signs: where it has not, the weight that
    counts least (by w * x * x) gets the other sign, and its magnitude is negative.
    """
    negative = x < 0
    size = np.abs(x)
    if even:
        cost = w * x
        cost *= x
        vectors, columns = np.nonzero(np.bitwise_xor.reduce(negative, axis=0))
        least = cost[:, vectors, columns].argmin(axis=0)
        size[least, vectors, columns] *= np.float32(-1)
        negative[least, vectors, columns] ^= True
    bits = negative.astype(np.uint8) << _BITS[:, None, None]
    return size, np.bitwise_or.reduce(bits, axis=0)


def flip(scale: F32, signs: U8, mask: int) -> tuple[F32, U8]:
    """A positive scale [n] and signs [vectors, n], all turned where the scale was negative."""
    signs[:, scale < 0] ^= np.uint8(mask)
    return np.abs(scale), signs


def odd_scale_codes(scales: F32, high: int, top: int) -> tuple[F32, U8]:
    """d [n] and codes [blocks, n] in 0..high: d * (2 * code + 1) for scales up to d * top."""
    d = scales.max(axis=0) / np.float32(top)
    codes = scales * reciprocal(d)
    codes -= np.float32(1)
    codes *= np.float32(0.5)
    round_to_codes(codes, 0, high)
    codes[:, d == 0] = 0
    return d, codes.astype(np.uint8)


def values_with_signs(magnitudes: F32, signs: U8) -> F32:
    """Magnitudes [..., 8] with the signs of one byte [...] each."""
    minus = signs[..., None] >> _BITS & np.uint8(1)
    return magnitudes * (np.float32(1) - np.float32(2) * minus)


def even_signs(seven: NDArray[np.integer[Any]]) -> U8:
    """Signs of 7 weights, a bit each, and an 8th that makes the number of minus signs even."""
    signs: U8 = seven.astype(np.uint8)
    parity: U8 = signs.copy()
    for shift in (4, 2, 1):
        parity ^= parity >> np.uint8(shift)
    return signs | parity << np.uint8(7)
