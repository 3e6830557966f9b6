"""What a quantizer takes beyond the rows and the blocks: the same few megabytes for any tensor."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS, BlockFormat

COLS = 2048
CASES = [
    pytest.param(codec, weighted, id=f"{codec.name}-{'weighted' if weighted else 'plain'}")
    for codec in FORMATS.values()
    for weighted in (False, True)
    if codec.block_len > 1 and (weighted or not codec.needs_importance)
]


def working_megabytes(
    codec: BlockFormat, rows: NDArray[np.float32], importance: NDArray[np.float32] | None
) -> float:
    tracemalloc.start()
    try:
        blocks = codec.quantize(rows, importance)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - blocks.nbytes) / 1e6


@pytest.mark.parametrize(("codec", "weighted"), CASES)
def test_working_memory_is_below_64_mb_and_does_not_grow_with_the_tensor(
    codec: BlockFormat, weighted: bool
) -> None:
    rng = np.random.default_rng(1)
    # The searches on a grid are slow, and take less at once.
    on_grid = codec.name.startswith(("IQ1", "IQ2", "IQ3"))
    count = 512 if on_grid else 2048
    rows = rng.standard_normal((count, COLS), np.float32)
    importance = rng.random(COLS, np.float32) if weighted else None
    part, whole = (
        working_megabytes(codec, some, importance) for some in (rows[: count * 3 // 4], rows)
    )
    assert whole < 64
    # What a chunk takes there depends on how many of its vectors are on the grid. Memory that grew
    # with the tensor would grow by a third.
    assert whole <= (part * 1.1 if on_grid else part + 0.1)
