"""Which of two models was preferred in blind choices, and whether that could be chance. Pure.

Interval and p-value are exact, from the binomial distribution, so that they agree: the 95 %
interval (Clopper and Pearson's) excludes a half if and only if p is below 0.05. Wilson's interval
is narrower and contradicts the exact test after few choices, such as five of five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import log

import numpy as np

from .metrics import Interval
from .votes import Vote

_LEVEL = 0.05
_HALVINGS = 50


@dataclass(frozen=True)
class Preference:
    """The blind choices between two models."""

    first: str
    """A model's name."""
    second: str
    first_chosen: int
    second_chosen: int
    equal: int
    """How often neither was better; interval and p-value leave these out."""
    share: Interval
    """The first model's share of the choices for one of the two, with its exact 95 % interval."""
    p_value: float
    """Probability of a result at least as uneven if both were equally good; two-sided, exact."""

    @property
    def choices(self) -> int:
        """All choices."""
        return self.decided + self.equal

    @property
    def decided(self) -> int:
        """The choices for one of the two."""
        return self.first_chosen + self.second_chosen

    def is_of(self, one: str, other: str) -> bool:
        """Whether it is between the models of these names."""
        return {self.first, self.second} == {one, other} and one != other

    def seen_from(self, name: str) -> Preference:
        """The same with the model of this name as the first."""
        if name == self.first:
            return self
        share = Interval(1 - self.share.value, 1 - self.share.high, 1 - self.share.low)
        return replace(
            self,
            first=self.second,
            second=self.first,
            first_chosen=self.second_chosen,
            second_chosen=self.first_chosen,
            share=share,
        )

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.p_value < _LEVEL


def preference(
    votes: Iterable[Vote], first: tuple[str, str], second: tuple[str, str]
) -> Preference:
    """The preference between two models, each given by its name and its identity."""
    first_id, second_id = first[1], second[1]
    chosen = [
        None if vote.chosen is None else vote.models[vote.chosen].id
        for vote in votes
        if vote.is_between(first_id, second_id)
    ]
    wins, losses = chosen.count(first_id), chosen.count(second_id)
    return Preference(
        first[0],
        second[0],
        wins,
        losses,
        chosen.count(None),
        exact_interval(wins, wins + losses),
        sign_test(wins, losses),
    )


def sentence(found: Preference) -> str:
    """Which of two models was preferred in blind choices, and whether that could be chance."""
    if found.first_chosen < found.second_chosen:
        found = found.seen_from(found.second)
    equal = f", {found.equal} equal" if found.equal else ""
    count = f"{found.choices} blind choice{'' if found.choices == 1 else 's'}"
    shares = f"{100 * found.share.low:.0f} to {100 * found.share.high:.0f} %, p = {_p(found)}"
    if found.first_chosen == found.second_chosen:
        chosen = f"{found.first} and {found.second} were chosen equally often"
    else:
        chosen = (
            f"{found.first} was preferred to {found.second} in {found.first_chosen} of "
            f"{found.decided}"
        )
    verdict = "more than chance explains" if found.is_beyond_chance else "chance could explain that"
    return f"In {count}, {chosen}{equal} ({shares}): {verdict}."


def _p(found: Preference) -> str:
    return f"{found.p_value:.2g}" if found.p_value >= 0.001 else "less than 0.001"


def exact_interval(successes: int, trials: int) -> Interval:
    """The share of successes with Clopper and Pearson's 95 % interval; 0.5 of no trials."""
    if not trials:
        return Interval(0.5, 0.0, 1.0)
    side = _LEVEL / 2
    low = _crossing(lambda p: at_least(successes, trials, p) - side) if successes else 0.0
    failures = trials - successes
    high = 1 - _crossing(lambda p: at_least(failures, trials, p) - side) if failures else 1.0
    return Interval(successes / trials, low, high)


def sign_test(wins: int, losses: int) -> float:
    """The two-sided exact p-value of this many wins and losses between equals."""
    return min(1.0, 2 * at_least(max(wins, losses), wins + losses, 0.5))


def at_least(successes: int, trials: int, p: float) -> float:
    """Probability of at least this many successes; each has `p`, above 0 and below 1."""
    if not successes:
        return 1.0
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])  # their logs
    counts = np.arange(successes, trials + 1)
    ways = factorials[trials] - factorials[counts] - factorials[trials - counts]
    logs = ways + counts * log(p) + (trials - counts) * log(1 - p)
    return min(1.0, float(np.exp(logs).sum()))


def _crossing(rising: Callable[[float], float]) -> float:
    """Where a function that rises from 0 to 1 is 0."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
