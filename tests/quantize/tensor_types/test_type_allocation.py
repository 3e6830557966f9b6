"""The least total cost in a number of bytes, compared with trying every combination."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.tensor_types.type_allocation import Option, allocate, smallest
from franken_gguf.quantize.tensor_types.type_presets import Type

KINDS = list(Type)[:13]

options = st.builds(
    Option,
    st.sampled_from(KINDS),
    st.integers(1, 60).map(lambda n: 32 * n),
    st.integers(0, 1000).map(float),
)
menus = st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=6)


def cost(choice: list[Option]) -> float:
    return sum(option.cost for option in choice)


def nbytes(choice: list[Option]) -> int:
    return sum(option.nbytes for option in choice)


@settings(max_examples=300, deadline=None)
@given(menus, st.integers(0, 12_000))
def test_no_combination_that_fits_costs_less(some: list[list[Option]], spare: int) -> None:
    budget = smallest(some) + spare
    found = allocate(some, budget)
    assert all(option in menu for option, menu in zip(found, some, strict=True))
    assert nbytes(found) <= budget
    fitting = (cost(list(one)) for one in product(*some) if nbytes(list(one)) <= budget)
    assert cost(found) == min(fitting)


def model(tensors: int) -> list[list[Option]]:
    """Menus as of a model: error falls by four for each bit, sensitivities spread over decades."""
    rng = np.random.default_rng(0)
    bits = (2.625, 3.4375, 4.25, 4.5, 5.5, 6.5625, 8.5, 16)
    menus = []
    for _ in range(tensors):
        weights, sensitivity = int(rng.choice([1, 4, 24])) << 18, rng.lognormal(0, 1.5)
        menus.append(
            [
                Option(kind, int(weights * b / 8), float(sensitivity * 4**-b * rng.uniform(0.8, 1)))
                for kind, b in zip(KINDS, bits, strict=False)
            ]
        )
    return menus


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_large_model_uses_its_bytes_up_and_is_near_the_bound(share: float) -> None:
    menus = model(240)
    low, high = smallest(menus), sum(max(o.nbytes for o in menu) for menu in menus)
    budget = int(low + share * (high - low))
    found = allocate(menus, budget)
    assert 0.999 * budget < nbytes(found) <= budget
    # No choice costs less than this, whatever the price of a byte.
    bounds = [
        sum(min(o.cost + price * o.nbytes for o in menu) for menu in menus) - price * budget
        for price in np.geomspace(1e-14, 1e-7, 1000)
    ]
    assert max(bounds) <= cost(found) <= max(bounds) * 1.005


def test_the_smallest_budget_gives_the_smallest_types() -> None:
    menus = model(20)
    found = allocate(menus, smallest(menus))
    assert found == [min(menu, key=lambda option: option.nbytes) for menu in menus]


def test_room_for_everything_gives_the_least_costly_types() -> None:
    menus = model(20)
    found = allocate(menus, 1 << 40)
    assert found == [min(menu, key=lambda option: option.cost) for menu in menus]
