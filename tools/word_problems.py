"""Small word problems with worked answers, made by a seed: how the reasoner learns its steps."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

NAMES = (
    "Ada",
    "Ben",
    "Clara",
    "Dev",
    "Elin",
    "Finn",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
)
THINGS = ("apples", "books", "buttons", "candles", "coins", "eggs", "pears", "ribbons", "shells")

Problem = tuple[str, str]
"""Question and worked answer."""


def word_problem(random: Random) -> Problem:
    """One problem of a kind drawn at random; the same for the same state of `random`."""
    question, steps, answer = random.choice(KINDS)(random)
    return question, f"Let us take it step by step. {steps} The answer is {answer}."


Made = tuple[str, str, str]
"""Question, steps, answer."""


def gives_away(random: Random) -> Made:
    """Subtraction, then addition."""
    name, thing = random.choice(NAMES), random.choice(THINGS)
    has, found = random.randint(20, 90), random.randint(2, 20)
    gone = random.randint(2, 19)
    return (
        f"{name} has {has} {thing}, gives away {gone} and then finds {found} more. "
        f"How many {thing} does {name} have now?",
        f"{name} starts with {has} {thing}. After giving away {gone}, {has} - {gone} = "
        f"{has - gone} are left. Finding {found} more makes {has - gone} + {found} = "
        f"{has - gone + found}.",
        f"{has - gone + found} {thing}",
    )


def boxes(random: Random) -> Made:
    """Multiplication, then addition."""
    name, thing = random.choice(NAMES), random.choice(THINGS)
    count, each, loose = random.randint(3, 9), random.randint(4, 12), random.randint(1, 9)
    return (
        f"{name} fills {count} boxes with {each} {thing} each and has {loose} {thing} left over. "
        f"How many {thing} are there in all?",
        f"In the boxes there are {count} x {each} = {count * each} {thing}. With the {loose} left "
        f"over, that is {count * each} + {loose} = {count * each + loose}.",
        f"{count * each + loose} {thing}",
    )


def shared(random: Random) -> Made:
    """Division without remainder."""
    one, other, third = random.sample(NAMES, 3)
    thing, each = random.choice(THINGS), random.randint(3, 15)
    return (
        f"{one}, {other} and {third} share {3 * each} {thing} equally. How many does each get?",
        f"There are three people: {one}, {other} and {third}. Shared equally, {3 * each} {thing} "
        f"are {3 * each} / 3 = {each} for each.",
        f"{each} {thing}",
    )


def ages(random: Random) -> Made:
    """A difference that stays, and a sum."""
    one, other = random.sample(NAMES, 2)
    age, older, years = random.randint(5, 30), random.randint(2, 9), random.randint(2, 10)
    return (
        f"{one} is {older} years older than {other}, who is {age}. "
        f"How old will {one} be in {years} years?",
        f"{other} is {age}, so {one} is {age} + {older} = {age + older} today. In {years} years "
        f"{one} will be {age + older} + {years} = {age + older + years}.",
        f"{age + older + years}",
    )


def journey(random: Random) -> Made:
    """Distance is speed times time."""
    name, speed, hours = random.choice(NAMES), random.randint(3, 20), random.randint(2, 6)
    rest = random.randint(5, 30)
    return (
        f"{name} rides {hours} hours at {speed} miles an hour and then has {rest} miles to go. "
        "How long is the whole way?",
        f"Distance is speed times time: {speed} x {hours} = {speed * hours} miles are done. With "
        f"{rest} to go, the way is {speed * hours} + {rest} = {speed * hours + rest} miles.",
        f"{speed * hours + rest} miles",
    )


def change(random: Random) -> Made:
    """A price times a count, taken from what was paid."""
    name, thing = random.choice(NAMES), random.choice(THINGS)
    count, price = random.randint(2, 9), random.randint(2, 9)
    paid = count * price + random.randint(1, 20)
    return (
        f"{name} buys {count} {thing} at {price} pence each and pays with {paid} pence. "
        "How much change is due?",
        f"The {thing} cost {count} x {price} = {count * price} pence. From {paid} pence, "
        f"{paid} - {count * price} = {paid - count * price} come back.",
        f"{paid - count * price} pence",
    )


def order(random: Random) -> Made:
    """Two comparisons chained."""
    one, other, third = random.sample(NAMES, 3)
    return (
        f"{one} is taller than {other}, and {other} is taller than {third}. Who is the shortest?",
        f"{other} is shorter than {one}. {third} is shorter than {other}, and so than {one} too. "
        f"Nobody is shorter than {third}.",
        third,
    )


KINDS: tuple[Callable[[Random], Made], ...] = (
    gives_away,
    boxes,
    shared,
    ages,
    journey,
    change,
    order,
)
