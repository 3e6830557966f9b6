"""Which entries of the lorebooks a moment of the story calls for; pure but for regexes' clocks.

An entry comes where it is constant, where the latest messages hold one of its keys, where another
entry's content does, or where it came before and is sticky. It stays away while it cools down,
before its delay, where a condition is not met or the dice are against it, where another of its
group comes, and where there is no room. Either is said, with the reason, for /lore to show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from random import Random

from .lore_keys import Key, KeyIndex
from .lorebook import ALWAYS, Condition, Entry, Lorebook

MAX_STEPS = 10  # of recursion
_SECONDS = 0.01  # of a turn for all regexes: those that it does not reach have the next turn's
_MAX_PER_TOKEN = 64  # characters; a text that has more for each is too long to be counted
_NO_ROOM = "no room in the token budget"
_MAX_REFUSED = 64  # entries that find no room: after so many nobody looks for more


@dataclass(frozen=True)
class Moment:
    """What entries are called for by: a moment of the story.

    `texts` are the messages, the newest first, each with its speaker's name; `answers` is how
    many the model has given; `started` says after how many messages the entry of a uid came last;
    `budget` is the room for all entries, in tokens. The same `salt` is the same dice.
    """

    texts: Sequence[str]
    answers: int = 0
    started: Mapping[str, int] = field(default_factory=dict)
    budget: int = 1 << 30
    greeting: int = 0
    salt: str = ""


@dataclass(frozen=True)
class Called:
    """An entry that matched and why, or why it is inactive all the same."""

    entry: Entry
    text: str
    """Its content, macros replaced."""
    reason: str
    is_active: bool = True
    starts: bool = False
    """Whether a time begins here in which it is sticky or cools down."""


class Lore:
    """All entries of some lorebooks. `expand` replaces the macros in their keys."""

    def __init__(self, books: Sequence[Lorebook], expand: Callable[[str], str] = str) -> None:
        self.entries = [(entry, book) for book in books for entry in book.entries]
        self.place = {entry.uid: n for n, (entry, _) in enumerate(self.entries)}
        self.keys: list[Key] = []
        self.owner: dict[int, int] = {}
        self.conditions: list[list[tuple[Condition, range]]] = []
        for number, (entry, _) in enumerate(self.entries):
            self.owner |= dict.fromkeys(self._filed(entry.keys, expand), number)
            self.conditions.append(
                [(one, self._filed(one.keys, expand)) for one in entry.conditions]
            )
        self.index = KeyIndex(self.keys)
        self.constant = [n for n, (entry, _) in enumerate(self.entries) if entry.is_constant]
        self.delayed = [n for n, (entry, _) in enumerate(self.entries) if entry.only_by_others]
        self._depth = max((entry.scan_depth for entry, _ in self.entries), default=0)

    def __len__(self) -> int:
        return len(self.entries)

    def _filed(self, keys: Iterable[Key], expand: Callable[[str], str]) -> range:
        start = len(self.keys)
        self.keys += [
            Key(expand(key.text), key.is_regex, key.has_case, key.is_word) for key in keys
        ]
        return range(start, len(self.keys))

    def called(
        self,
        moment: Moment,
        expand: Callable[[str], str] = str,
        count_tokens: Callable[[str], int] = len,
    ) -> list[Called]:
        """The entries that `moment` calls for, in the order in which they are to stand.

        `expand` replaces the macros in their contents.
        """
        if not self.entries:
            return []
        deadline = time.monotonic() + _SECONDS
        found = [self.index.found(text, deadline) for text in moment.texts[: self._depth]]
        called = _Pass(self, moment, found, deadline, expand, count_tokens).run()
        return sorted(called, key=lambda one: (one.entry.order, self.place[one.entry.uid]))


class _Pass:
    """One look at one moment, step by step."""

    def __init__(
        self,
        lore: Lore,
        moment: Moment,
        found: list[Set[int]],
        deadline: float,
        expand: Callable[[str], str],
        count_tokens: Callable[[str], int],
    ) -> None:
        self._lore = lore
        self._moment = moment
        self._found = found
        self._deadline = deadline
        self._expand = expand
        self._count_tokens = count_tokens
        self._from_others: list[Set[int]] = []
        self._called: dict[int, Called] = {}
        self._room = moment.budget
        self._book_room: dict[str, int] = {}
        self._refused = 0
        self._group_of: dict[str, str] = {}

    def run(self) -> list[Called]:
        calls = {**self._by_keys(), **self._by_themselves()}
        delayed = {n: calls.pop(n) for n in self._lore.delayed if n in calls}
        for step in range(MAX_STEPS + 1):
            before = set(self._called)
            self._admit(calls)
            new = [one for n, one in self._called.items() if n not in before and one.is_active]
            calls = self._by_others(new)
            if step == 0:
                calls = {**delayed, **calls}
            if not calls:
                break
        return list(self._called.values())

    def _by_themselves(self) -> dict[int, str]:
        calls = dict.fromkeys(self._lore.constant, "always")
        for uid in self._moment.started:
            number = self._lore.place.get(uid)
            if number is not None:
                rest = self._started(self._lore.entries[number][0])[0]
                if rest > 0:
                    calls[number] = f"sticky, {_messages(rest)}"
        return calls

    def _by_keys(self) -> dict[int, str]:
        calls: dict[int, str] = {}
        for place, numbers in enumerate(self._found):
            for key in numbers:
                number = self._lore.owner.get(key)
                if number is None or number in calls:
                    continue
                if self._lore.entries[number][0].scan_depth > place:
                    where = f"{place + 1} messages back" if place else "in the last message"
                    calls[number] = f"{self._lore.keys[key].text!r} {where}"
        return calls

    def _by_others(self, new: list[Called]) -> dict[int, str]:
        calls: dict[int, str] = {}
        for caller in new:
            if not (caller.entry.is_recursive and caller.entry.calls_others):
                continue
            numbers = self._lore.index.found(caller.text, self._deadline)
            self._from_others.append(numbers)
            for key in numbers:
                number = self._lore.owner.get(key)
                if number is None or number in self._called or number in calls:
                    continue
                entry = self._lore.entries[number][0]
                if entry.is_recursive and entry.is_called_by_others:
                    name = self._lore.keys[key].text
                    calls[number] = f"{name!r} in {caller.entry.label!r}"
        return calls

    def _admit(self, calls: Mapping[int, str]) -> None:
        """Let those of `calls` in that nothing keeps away, the most important first."""

        def importance(number: int) -> tuple[bool, bool, float, int]:
            entry = self._lore.entries[number][0]
            return (
                not entry.is_constant,
                not calls[number].startswith("sticky"),
                -entry.rank,
                number,
            )

        losers = self._losers(calls)
        for number in sorted(calls, key=importance):
            entry, book = self._lore.entries[number]
            reason = calls[number]
            is_sticky = reason.startswith("sticky")
            against = "" if is_sticky else self._obstacle(number, entry)
            against = against or losers.get(number, "")
            text = "" if against else self._expand(entry.content).strip()
            if not against and not self._finds_room(text, book):
                against = _NO_ROOM
            self._called[number] = Called(
                entry,
                text,
                f"{reason}: {against}" if against else reason,
                is_active=not against,
                starts=not (against or is_sticky) and bool(entry.sticky or entry.cooldown),
            )

    def _losers(self, calls: Mapping[int, str]) -> dict[int, str]:
        """Those of `calls` in whose groups another comes, and what is to be said of it."""

        def strength(number: int) -> tuple[bool, bool, float]:
            entry = self._lore.entries[number][0]
            # The largest u ** (1 / weight) falls to each by its weight (Efraimidis, Spirakis 2006).
            lot = self._dice(entry, "group").random() ** (1 / max(entry.weight, 1e-9))
            is_sticky = calls[number].startswith("sticky")
            return is_sticky, entry.goes_first, entry.order if entry.goes_first else lot

        losers = {}
        grouped = [n for n in calls if self._lore.entries[n][0].groups]
        for number in sorted(grouped, key=strength, reverse=True):
            entry = self._lore.entries[number][0]
            if self._obstacle(number, entry) and not calls[number].startswith("sticky"):
                continue
            group = next((one for one in sorted(entry.groups) if one in self._group_of), None)
            if group is not None:
                losers[number] = f"{self._group_of[group]!r} was chosen from group {group!r}"
            else:
                self._group_of |= dict.fromkeys(entry.groups, entry.label)
        return losers

    def _dice(self, entry: Entry, of: str) -> Random:
        return Random(f"{self._moment.salt} {len(self._moment.texts)} {entry.uid} {of}")

    def _obstacle(self, number: int, entry: Entry) -> str:
        """What keeps an entry away that was called for; "" where nothing does."""
        if self._refused >= _MAX_REFUSED:
            return _NO_ROOM
        return next(self._obstacles(number, entry), "")

    def _obstacles(self, number: int, entry: Entry) -> Iterator[str]:
        moment, count = self._moment, len(self._moment.texts)
        if count < entry.delay:
            yield f"starts after {entry.delay} messages"
        _, cooling = self._started(entry)
        if cooling > 0:
            yield f"cooling down, {_messages(cooling)}"
        if moment.answers < entry.answers or moment.answers % entry.every:
            yield "not after this number of answers"
        if entry.greeting not in (None, moment.greeting):
            yield "for another greeting"
        seen = [*self._found[: entry.scan_depth], *self._from_others]
        for condition, keys in self._lore.conditions[number]:
            if not condition.holds(any(key in one for one in seen) for key in keys):
                yield f"needs {condition.logic} of {', '.join(k.text for k in condition.keys)}"
        chance = entry.probability
        if chance < 100 and self._dice(entry, "chance").random() * 100 >= chance:
            yield f"not triggered ({chance:g} % chance)"

    def _started(self, entry: Entry) -> tuple[int, int]:
        """For how many messages more an entry is sticky and, after that, cools down."""
        since = len(self._moment.texts) - self._moment.started.get(entry.uid, -4 * ALWAYS)
        sticky = entry.sticky - since + 1
        return sticky, 0 if sticky > 0 else sticky + entry.cooldown

    def _finds_room(self, text: str, book: Lorebook) -> bool:
        own = self._book_room.get(book.name, book.budget or ALWAYS)
        room = min(self._room, own)
        tokens = self._count_tokens(text) if len(text) <= _MAX_PER_TOKEN * room else room + 1
        if tokens > room:
            self._refused += 1
            return False
        self._room -= tokens
        self._book_room[book.name] = own - tokens
        return True


def _messages(count: int) -> str:
    if count > ALWAYS // 2:
        return "permanently"
    return f"{count} more message{'s' * (count != 1)}"
