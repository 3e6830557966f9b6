"""The types with the least total cost in a number of bytes: a multiple-choice knapsack. Pure.

Each tensor takes one option of its menu. With a price for a byte, each takes on its own whichever
option is cheapest altogether (cost + price · bytes); the price at which the bytes just fit gives a
lower bound on the cost and a good first choice. An option that exceeds its tensor's cheapest by
more than the gap between the two is in no better choice and is dropped. Few tensors have more than
one option left, and those are solved by dynamic programming over (bytes, cost) pairs of which none
is both larger and costlier than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray

from .type_presets import Type

_MAX_STATES = 1 << 15
"""Pairs that the dynamic programming keeps, those nearest to the bound; fewer make it exact."""


@dataclass(frozen=True)
class Option:
    """A type that a tensor can get."""

    type: Type
    nbytes: int
    cost: float


Menu = Sequence[Option]


def smallest(menus: Sequence[Menu]) -> int:
    """The fewest bytes that the tensors can take."""
    return sum(min(option.nbytes for option in menu) for menu in menus)


def allocate(menus: Sequence[Menu], budget: int) -> list[Option]:
    """One option of each menu with the least total cost in at most `budget` bytes.

    `budget` must be at least smallest(menus). Of options that cost the same, the smaller is taken.
    """
    assert budget >= smallest(menus)
    fronts = [_pareto(menu) for menu in menus]
    choice, price = _greedy(fronts, budget)
    spare = budget - _nbytes(choice)
    bound = sum(min(_priced(o, price) for o in front) for front in fronts) - price * budget
    gap = max(_cost(choice) - bound, 0.0) * (1 + 1e-9) + 1e-15
    if not spare or price == 0:
        return choice
    return min(choice, _dynamic(fronts, budget, price, gap), key=_cost)


def _pareto(menu: Menu) -> list[Option]:
    """The options by size, each costing less than all smaller ones."""
    front: list[Option] = []
    for option in sorted(menu, key=lambda option: (option.nbytes, option.cost)):
        if not front or option.cost < front[-1].cost:
            front.append(option)
    return front


def _hull(front: Sequence[Option]) -> list[Option]:
    """The options that are cheapest at some price: the lower convex hull."""
    hull: list[Option] = []
    for option in front:
        while len(hull) > 1 and _saving(hull[-2], hull[-1]) <= _saving(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _saving(smaller: Option, larger: Option) -> float:
    """What a byte saves that is spent on going from one option to the other."""
    return (smaller.cost - larger.cost) / (larger.nbytes - smaller.nbytes)


def _greedy(fronts: Sequence[Sequence[Option]], budget: int) -> tuple[list[Option], float]:
    """The steps along the hulls that save most for a byte while they fit, then any that fit.

    Also the price of a byte: the saving of the first step that did not fit, 0 if all did.
    """
    hulls = [_hull(front) for front in fronts]
    choice = [hull[0] for hull in hulls]
    spare, price = budget - _nbytes(choice), 0.0
    steps = [
        (_saving(smaller, larger), index, larger)
        for index, hull in enumerate(hulls)
        for smaller, larger in pairwise(hull)
    ]
    for saving, index, larger in sorted(steps, key=lambda step: -step[0]):
        more = larger.nbytes - choice[index].nbytes
        if more <= spare:
            choice[index], spare = larger, spare - more
        elif not price:
            price = saving
    return choice, price


def _dynamic(
    fronts: Sequence[Sequence[Option]], budget: int, price: float, gap: float
) -> list[Option]:
    """The best choice among those within `gap` of the bound at `price`."""
    sizes, excess = np.zeros(1, np.int64), np.zeros(1)
    left = [_within(front, price, gap) for front in fronts]
    came_from: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for options, excesses in left:
        nbytes = np.array([option.nbytes for option in options])
        all_sizes = (sizes[:, None] + nbytes).ravel()
        all_excess = (excess[:, None] + excesses).ravel()
        kept = _undominated(all_sizes, all_excess, price, gap)
        came_from.append((kept // len(options), kept % len(options)))
        sizes, excess = all_sizes[kept], all_excess[kept]
    fitting = np.flatnonzero(sizes <= budget)
    if not len(fitting):
        return [max(front, key=lambda option: option.cost) for front in fronts]
    state = int(fitting[np.argmin(excess[fitting] - price * sizes[fitting])])
    choice = []
    for (options, _), (parents, taken) in zip(reversed(left), reversed(came_from), strict=True):
        choice.append(options[int(taken[state])])
        state = int(parents[state])
    return choice[::-1]


def _within(
    front: Sequence[Option], price: float, gap: float
) -> tuple[list[Option], NDArray[np.float64]]:
    """The options within `gap` of the tensor's cheapest at `price`, and how far each is off."""
    least = min(_priced(option, price) for option in front)
    kept = [option for option in front if _priced(option, price) - least <= gap]
    return kept, np.array([_priced(option, price) - least for option in kept])


def _undominated(
    sizes: NDArray[np.int64], excess: NDArray[np.float64], price: float, gap: float
) -> NDArray[np.intp]:
    """Indices of the pairs, by size, that cost less than all smaller ones and are within `gap`."""
    order = np.lexsort((excess, sizes))
    order = order[excess[order] <= gap]
    cost = excess[order] - price * sizes[order]
    before = np.concatenate(([inf], np.minimum.accumulate(cost)[:-1]))
    order = order[cost < before]
    if len(order) > _MAX_STATES:
        nearest = np.argpartition(excess[order], _MAX_STATES)[:_MAX_STATES]
        order = order[np.sort(nearest)]
    return order


def _priced(option: Option, price: float) -> float:
    return option.cost + price * option.nbytes


def _nbytes(choice: Sequence[Option]) -> int:
    return sum(option.nbytes for option in choice)


def _cost(choice: Sequence[Option]) -> float:
    return sum(option.cost for option in choice)
