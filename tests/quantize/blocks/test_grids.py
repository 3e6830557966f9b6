"""The grids that are read from gguf-py, and their neighbours, are ggml's."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from franken_gguf.quantize.blocks.grids import grid

# Of the codes, a byte each, of the tables in llama.cpp's ggml/src/ggml-common.h.
HASHES = {
    "IQ1_S": "bf92c60e2ed15644",
    "IQ2_XXS": "886814bc08b03100",
    "IQ2_XS": "e9567eb15257b717",
    "IQ2_S": "1d4ca1e2fbd2be07",
    "IQ3_XXS": "e86540e4e7b2d337",
    "IQ3_S": "acb8a458f699e571",
}


@pytest.mark.parametrize("name", HASHES)
def test_the_points_of_a_grid_are_ggmls(name: str) -> None:
    assert sha256(grid(name).codes.tobytes()).hexdigest()[:16] == HASHES[name]


@pytest.mark.parametrize("name", HASHES)
def test_every_position_holds_a_point_or_has_neighbours(name: str) -> None:
    points = grid(name)
    assert ((points.index >= 0) != (points.counts > 0)).all()
    assert (points.codes[points.index[points.index >= 0]] == points.at[points.index >= 0]).all()


@pytest.mark.parametrize("name", HASHES)
def test_neighbours_are_listed_by_distance_and_then_by_number(name: str) -> None:
    points = grid(name)
    for position in np.flatnonzero(points.counts)[::97]:
        near = points.near[points.start[position] : points.start[position + 1]].astype(int)
        apart = points.codes.astype(int) - points.at[position]
        distance = np.square(apart).sum(axis=1)
        assert near.tolist() == sorted(near, key=lambda point: (distance[point], point))
        assert set(near) == set(np.flatnonzero(distance <= distance[near].max()))
