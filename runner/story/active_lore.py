"""Which lorebook entries match at a point of the story and which of those are active.

An entry matches if it is constant, if the latest messages or the content of another active entry
contain one of its keys, or if it is still sticky. It stays inactive while it cools down, before its
delay, if a condition is not met, if its probability does not trigger it, if another entry of its
group was chosen, or if the token budget is used up. /lore shows the reasons. Pure, except that
regular expressions have a time limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from random import Random

from .lore_keys import Key, KeyIndex
from .lorebook import ALWAYS, Condition, Entry, Lorebook

MAX_STEPS = 10  # of recursion
_SECONDS = 0.01  # for all regexes of a turn; those that were not reached are tried next turn
_MAX_PER_TOKEN = 64  # characters; a text with more per token of the budget is not tokenized
_NO_ROOM = "no room in the token budget"
_MAX_REFUSED = 64  # once this many entries found no room, all others are refused


@dataclass(frozen=True)
class Moment:
    """The point of the story at which entries are matched.

    `texts` are the messages, newest first, each with its speaker's name; `answers` counts the
    model's; `started` maps the uid of an entry to the number of messages after which its sticky or
    cooldown time last started; `budget` is in tokens, for all entries; `greeting` is the index of
    the one in use. The same `salt` gives the same random choices.
    """

    texts: Sequence[str]
    answers: int = 0
    started: Mapping[str, int] = field(default_factory=dict)
    budget: int = 1 << 30
    greeting: int = 0
    salt: str = ""


@dataclass(frozen=True)
class LoreMatch:
    """An entry that matched, and why it is active or inactive."""

    entry: Entry
    text: str
    """Its content with macros replaced; empty if it is inactive."""
    reason: str
    is_active: bool = True
    starts: bool = False
    """Whether its sticky or cooldown time starts now."""


class Lore:
    """The entries of several lorebooks; `expand` replaces the macros in their keys."""

    def __init__(self, books: Sequence[Lorebook], expand: Callable[[str], str] = str) -> None:
        self.entries = [(entry, book) for book in books for entry in book.entries]
        self.place = {entry.uid: n for n, (entry, _) in enumerate(self.entries)}
        self.keys: list[Key] = []
        self.owner: dict[int, int] = {}
        self.conditions: list[list[tuple[Condition, range]]] = []
        for number, (entry, _) in enumerate(self.entries):
            self.owner |= dict.fromkeys(self._added(entry.keys, expand), number)
            self.conditions.append(
                [(condition, self._added(condition.keys, expand)) for condition in entry.conditions]
            )
        self.index = KeyIndex(self.keys)
        self.constant = [n for n, (entry, _) in enumerate(self.entries) if entry.is_constant]
        self.delayed = [n for n, (entry, _) in enumerate(self.entries) if entry.only_by_others]
        self._depth = max((entry.scan_depth for entry, _ in self.entries), default=0)

    def __len__(self) -> int:
        return len(self.entries)

    def _added(self, keys: Iterable[Key], expand: Callable[[str], str]) -> range:
        start = len(self.keys)
        self.keys += [
            Key(expand(key.text), key.is_regex, key.has_case, key.is_word) for key in keys
        ]
        return range(start, len(self.keys))

    def matches(
        self,
        moment: Moment,
        expand: Callable[[str], str] = str,
        count_tokens: Callable[[str], int] = len,
    ) -> list[LoreMatch]:
        """The entries that match at `moment`, active or not, in the order of their insertion.

        `expand` replaces the macros in their contents.
        """
        if not self.entries:
            return []
        deadline = time.monotonic() + _SECONDS
        found = [self.index.found(text, deadline) for text in moment.texts[: self._depth]]
        matches = _Pass(self, moment, found, deadline, expand, count_tokens).run()
        return sorted(matches, key=lambda match: (match.entry.order, self.place[match.entry.uid]))


class _Pass:
    """Matches all entries at one moment: first by the messages, then recursively by each other."""

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
        self._matches: dict[int, LoreMatch] = {}
        self._room = moment.budget
        self._book_room: dict[str, int] = {}
        self._refused = 0
        self._group_of: dict[str, str] = {}

    def run(self) -> list[LoreMatch]:
        matched = {**self._by_keys(), **self._without_keys()}
        delayed = {n: matched.pop(n) for n in self._lore.delayed if n in matched}
        for step in range(MAX_STEPS + 1):
            before = set(self._matches)
            self._decide(matched)
            new = [one for n, one in self._matches.items() if n not in before and one.is_active]
            matched = self._by_others(new)
            if step == 0:
                matched = {**delayed, **matched}
            if not matched:
                break
        return list(self._matches.values())

    def _without_keys(self) -> dict[int, str]:
        """Constant and sticky entries by number, with the reason."""
        reasons = dict.fromkeys(self._lore.constant, "always")
        for uid in self._moment.started:
            number = self._lore.place.get(uid)
            if number is not None:
                rest = self._started(self._lore.entries[number][0])[0]
                if rest > 0:
                    reasons[number] = f"sticky, {_messages(rest)}"
        return reasons

    def _by_keys(self) -> dict[int, str]:
        """Entries whose keys are in the messages, with the reason."""
        reasons: dict[int, str] = {}
        for place, numbers in enumerate(self._found):
            for key in numbers:
                number = self._lore.owner.get(key)
                if number is None or number in reasons:
                    continue
                if self._lore.entries[number][0].scan_depth > place:
                    where = f"{place + 1} messages back" if place else "in the last message"
                    reasons[number] = f"{self._lore.keys[key].text!r} {where}"
        return reasons

    def _by_others(self, new: list[LoreMatch]) -> dict[int, str]:
        """Entries whose keys are in the contents of newly active ones, with the reason."""
        reasons: dict[int, str] = {}
        for match in new:
            if not (match.entry.is_recursive and match.entry.can_match_others):
                continue
            numbers = self._lore.index.found(match.text, self._deadline)
            self._from_others.append(numbers)
            for key in numbers:
                number = self._lore.owner.get(key)
                if number is None or number in self._matches or number in reasons:
                    continue
                entry = self._lore.entries[number][0]
                if entry.is_recursive and entry.can_be_matched_by_others:
                    name = self._lore.keys[key].text
                    reasons[number] = f"{name!r} in {match.entry.label!r}"
        return reasons

    def _decide(self, reasons: Mapping[int, str]) -> None:
        """Decide which of these matches become active, the most important first."""

        def importance(number: int) -> tuple[bool, bool, float, int]:
            entry = self._lore.entries[number][0]
            return (
                not entry.is_constant,
                not reasons[number].startswith("sticky"),
                -entry.rank,
                number,
            )

        losers = self._losers(reasons)
        for number in sorted(reasons, key=importance):
            entry, book = self._lore.entries[number]
            reason = reasons[number]
            is_sticky = reason.startswith("sticky")
            obstacle = "" if is_sticky else self._obstacle(number, entry)
            obstacle = obstacle or losers.get(number, "")
            text = "" if obstacle else self._expand(entry.content).strip()
            if not obstacle and not self._takes_room(text, book):
                obstacle = _NO_ROOM
            self._matches[number] = LoreMatch(
                entry,
                text,
                f"{reason}: {obstacle}" if obstacle else reason,
                is_active=not obstacle,
                starts=not (obstacle or is_sticky) and bool(entry.sticky or entry.cooldown),
            )

    def _losers(self, reasons: Mapping[int, str]) -> dict[int, str]:
        """Matches that lose their group to another entry, and which entry that is."""

        def strength(number: int) -> tuple[bool, bool, float]:
            entry = self._lore.entries[number][0]
            # The largest u ** (1 / weight) is a choice by weight (Efraimidis and Spirakis 2006).
            lot = self._dice(entry, "group").random() ** (1 / max(entry.weight, 1e-9))
            is_sticky = reasons[number].startswith("sticky")
            return is_sticky, entry.goes_first, entry.order if entry.goes_first else lot

        losers = {}
        grouped = [n for n in reasons if self._lore.entries[n][0].groups]
        for number in sorted(grouped, key=strength, reverse=True):
            entry = self._lore.entries[number][0]
            if self._obstacle(number, entry) and not reasons[number].startswith("sticky"):
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
        """Why a matched entry stays inactive; "" if nothing prevents it."""
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
        """For how many more messages an entry is sticky and, after that, cools down."""
        since = len(self._moment.texts) - self._moment.started.get(entry.uid, -4 * ALWAYS)
        sticky = entry.sticky - since + 1
        return sticky, 0 if sticky > 0 else sticky + entry.cooldown

    def _takes_room(self, text: str, book: Lorebook) -> bool:
        """Take the tokens of `text` from the budgets; False if they do not fit."""
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
