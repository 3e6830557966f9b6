"""Lorebooks: SillyTavern's world info and the books of cards (V2, V3), read into one form.

The two write the same things under different names (`key`, `keys`; `selectiveLogic` in an entry,
`selective_logic` under its `extensions`): names are read without case and underscores, and an
entry's extensions as its own. V3's decorators, lines that begin with @@, are read too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .card_fields import MAX_JSON_BYTES, Fields, StoryError, one_line, parse, read_bytes
from .lore_decorators import decorated
from .lore_keys import Key

SCAN_DEPTH = 2  # messages, as SillyTavern has it where a book says nothing
MAX_SCAN_DEPTH = 1000
ALWAYS = 1 << 30  # messages
_LOGIC = ("any", "not all", "not any", "all")  # SillyTavern's selectiveLogic 0 to 3
_POSITIONS = {0: "before", 1: "after", 4: "depth"}


@dataclass(frozen=True)
class Condition:
    """What besides its keys an entry asks for: "any" or "all" of `keys`, "not any", "not all"."""

    logic: str
    keys: tuple[Key, ...]

    def holds(self, found: Iterable[bool]) -> bool:
        """Whether it is met, given which of the keys are there."""
        test = all if self.logic.endswith("all") else any
        return test(found) is not self.logic.startswith("not")


@dataclass(frozen=True)
class Entry:
    """One piece of lore. Spans and depths are counted in messages."""

    uid: str
    """The same for the same keys and content: an entry that was changed is another."""
    label: str
    content: str
    keys: tuple[Key, ...] = ()
    conditions: tuple[Condition, ...] = ()
    is_constant: bool = False
    position: str = "after"
    """"before" or "after" what the card says, or "depth" messages before the end."""
    depth: int = 4
    order: float = 100
    """Lower comes earlier."""
    rank: float = 100
    """Higher stays longer where room is short."""
    scan_depth: int = SCAN_DEPTH
    probability: float = 100
    groups: frozenset[str] = frozenset()
    """Of those called for of one group, one comes: by lot, or by order where one goes first."""
    weight: float = 100
    goes_first: bool = False
    sticky: int = 0
    cooldown: int = 0
    delay: int = 0
    answers: int = 0
    """So many answers of the model must have been."""
    every: int = 1
    """Only where the number of answers is a multiple."""
    greeting: int | None = None
    """Only with this greeting."""
    is_recursive: bool = True
    """Whether other entries' contents call for it, and its own for others."""
    calls_others: bool = True
    is_called_by_others: bool = True
    only_by_others: bool = False

    @property
    def is_steady(self) -> bool:
        """Whether it is in every prompt."""
        return (
            self.is_constant
            and self.probability >= 100
            and self.greeting is None
            and not (self.conditions or self.groups or self.cooldown or self.delay or self.answers)
            and self.every == 1
        )


@dataclass(frozen=True)
class Lorebook:
    """Entries that are enabled and hold something. `budget` is in tokens, None for no own one."""

    name: str
    entries: tuple[Entry, ...] = ()
    budget: int | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)


def read_lorebook(path: Path) -> Lorebook:
    """The lorebook in a JSON file, of either form, or a card's own. Raises StoryError."""
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        top = parse(data)
        book: dict[str, Any] = top["data"] if isinstance(top.get("data"), dict) else top
        if "entries" not in book and isinstance(book.get("character_book"), dict):
            book = book["character_book"]
        if not isinstance(book.get("entries"), dict | list):
            raise StoryError("it is not a lorebook: it has no entries")
        return lorebook_from(book, path.stem)
    except StoryError as error:
        raise StoryError(f"{path}: {error}") from None


def lorebook_from(found: Mapping[str, Any], name: str) -> Lorebook:
    """The lorebook in a JSON object that has `entries`; `name` is for one that has none."""
    odd: list[str] = []
    book = Fields(_plain(found), odd)
    name = one_line(book.text("name")) or one_line(name)
    defaults = Entry(
        "",
        "",
        "",
        scan_depth=book.whole("scandepth", SCAN_DEPTH, high=MAX_SCAN_DEPTH),
        is_recursive=book.flag("recursivescanning", True),
    )
    undone: Counter[str] = Counter()
    plain = (Fields(_plain(one.members), odd, one.where) for one in book.tables("entries"))
    read = (_entry(one, defaults, undone) for one in plain)
    entries = [entry for entry in read if entry is not None]
    remarks = [f"{n} of {len(entries)} entries {what}" for what, n in undone.items() if n]
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        remarks.append(f"ignored, of the wrong type: {', '.join(odd[:3])}{more}")
    budget = book.whole("tokenbudget", 0)
    return Lorebook(name, tuple(entries), budget or None, tuple(remarks))


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    extensions = found.get("extensions")
    both = {**found, **(extensions if isinstance(extensions, dict) else {})}
    return {name.replace("_", "").lower(): one for name, one in both.items() if one is not None}


def _entry(one: Fields, book: Entry, undone: Counter[str]) -> Entry | None:
    decorators, content = decorated(one.text("content"))
    is_enabled = one.flag("enabled", True) and not one.flag("disable")
    if not is_enabled or not content.strip() or decorators.flag("dont_activate"):
        return None
    for name, what in (
        ("usegroupscoring", "want the best match of their group; here it is chosen at random"),
        ("vectorized", "can match by similarity in SillyTavern; here only by their keys"),
        ("triggers", "have triggers, which are ignored"),
    ):
        undone[what] += one.truth(name)

    own, conditions = _keys(one, decorators)
    order = one.number("insertionorder", one.number("order", 100.0)) or 0.0
    label = one.text("comment") or one.text("name") or (own[0].text if own else content)
    digest = hashlib.sha256("\0".join((*(key.text for key in own), content)).encode())
    position, depth = _position(one, decorators, undone)
    has_chance = one.flag("useprobability", True)
    is_kept = decorators.flag("keep_activate_after_match")
    is_spent = decorators.flag("dont_activate_after_match")
    return Entry(
        digest.hexdigest()[:12],
        one_line(label)[:60],
        content.strip(),
        own,
        conditions,
        is_constant=_is_constant(one) or decorators.flag("activate"),
        position=position,
        depth=depth,
        order=order,
        rank=one.number("priority", order) or 0.0,
        scan_depth=decorators.whole(
            "scan_depth", one.whole("scandepth", book.scan_depth, high=MAX_SCAN_DEPTH)
        ),
        probability=(one.number("probability", 100.0) or 0.0) if has_chance else 100,
        groups=frozenset(filter(None, map(str.strip, one.text("group").split(",")))),
        weight=max(0.0, one.number("groupweight", 100.0) or 0.0),
        goes_first=one.flag("groupoverride"),
        sticky=ALWAYS if is_kept else one.whole("sticky", 0),
        cooldown=ALWAYS if is_spent else one.whole("cooldown", 0),
        delay=one.whole("delay", 0),
        answers=decorators.whole("activate_only_after", 0),
        every=max(1, decorators.whole("activate_only_every", 1)),
        greeting=decorators.whole("is_greeting", 0) if "is_greeting" in decorators else None,
        is_recursive=book.is_recursive,
        calls_others=not one.flag("preventrecursion"),
        is_called_by_others=not one.flag("excluderecursion"),
        only_by_others=one.truth("delayuntilrecursion"),
    )


def _is_constant(one: Fields) -> bool:
    return one.flag("constant") and not one.flag("useregex")  # V3: then it is ignored


def _keys(one: Fields, decorators: Fields) -> tuple[tuple[Key, ...], tuple[Condition, ...]]:
    """What calls for an entry, and on which conditions."""
    has_case, is_word = one.flag("casesensitive"), one.flag("matchwholewords", True)
    is_regex = one.flag("useregex")

    def keys(*texts: str) -> tuple[Key, ...]:
        stripped = (text.strip() for text in texts)
        return tuple(Key(text, is_regex, has_case, is_word) for text in stripped if text)

    others = keys(*one.texts("secondarykeys"), *one.texts("keysecondary"))
    if is_regex or not one.flag("selective", bool(others)):  # V3: ignored beside regexes
        others = ()
    conditions = (
        Condition(_LOGIC[one.whole("selectivelogic", 0, high=3)], others),
        Condition("any", keys(*decorators.texts("additional_keys"))),
        Condition("not any", keys(*decorators.texts("exclude_keys"))),
    )
    own = keys(*one.texts("keys"), *one.texts("key"))
    return own, tuple(condition for condition in conditions if condition.keys)


def _position(one: Fields, decorators: Fields, undone: Counter[str]) -> tuple[str, int]:
    """Where it stands, and its depth where that is "depth"."""
    named = {"before_desc": "before", "after_desc": "after"}.get(decorators.text("position"))
    if named:
        return named, 0
    if "depth" in decorators:
        return "depth", decorators.whole("depth", 4)
    if one.is_text("position"):
        return ("before" if one.text("position") == "before_char" else "after"), 0
    position = one.whole("position", 1)
    if position in (2, 3):  # above and below the author's note
        return "depth", 4
    if position not in _POSITIONS:
        undone["have a position that is not supported; they go after the card"] += 1
    return _POSITIONS.get(position, "after"), one.whole("depth", 4)
