"""Reads lorebooks: SillyTavern's world info and the books of character cards (V2, V3).

The two formats use different names for the same fields (`key`, `keys`; `selectiveLogic` in an
entry, `selective_logic` under its `extensions`). So names are compared without case and
underscores, and an entry's extensions count as its own fields. V3's decorators are supported.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .card_fields import MAX_JSON_BYTES, Fields, StoryError, one_line, parse, read_bytes
from .lore_decorators import decorated
from .lore_keys import Key

SCAN_DEPTH = 2  # messages; SillyTavern's default
MAX_SCAN_DEPTH = 1000
ALWAYS = 1 << 30  # messages: longer than any chat
_LOGIC = ("any", "not all", "not any", "all")  # SillyTavern's selectiveLogic 0 to 3
_POSITIONS = {0: "before", 1: "after", 4: "depth"}


@dataclass(frozen=True)
class Condition:
    """Secondary keys: an entry needs "any" or "all" of them in the text, "not any" or "not all"."""

    logic: str
    keys: tuple[Key, ...]

    def holds(self, found: Iterable[bool]) -> bool:
        """Whether it is met, given for each key whether it was found."""
        test = all if self.logic.endswith("all") else any
        return test(found) is not self.logic.startswith("not")


@dataclass(frozen=True)
class Entry:
    """One entry of a lorebook. Times and depths are counted in messages."""

    uid: str
    """Hash of keys and content: a changed entry has another."""
    label: str
    content: str
    keys: tuple[Key, ...] = ()
    conditions: tuple[Condition, ...] = ()
    is_constant: bool = False
    position: str = "after"
    """"before" or "after" the character's description, or "depth": at `depth`, from the end."""
    depth: int = 4
    order: float = 100
    """Lower is inserted earlier."""
    rank: float = 100
    """If the token budget is short, higher ones stay."""
    scan_depth: int = SCAN_DEPTH
    probability: float = 100
    groups: frozenset[str] = frozenset()
    """Of the matches of a group one becomes active: by weight, or by order if one `goes_first`."""
    weight: float = 100
    goes_first: bool = False
    sticky: int = 0
    cooldown: int = 0
    delay: int = 0
    answers: int = 0
    """Inactive before this number of the model's answers."""
    every: int = 1
    """Active only if the number of answers is a multiple of this."""
    greeting: int | None = None
    """The index of the only greeting with which it can be active."""
    is_recursive: bool = True
    """Whether its book allows matches in the contents of other entries."""
    can_match_others: bool = True
    can_be_matched_by_others: bool = True
    only_by_others: bool = False

    @property
    def is_steady(self) -> bool:
        """Whether it is in every prompt of the chat."""
        return (
            self.is_constant
            and self.probability >= 100
            and self.greeting is None
            and not (self.conditions or self.groups or self.cooldown or self.delay or self.answers)
            and self.every == 1
        )


@dataclass(frozen=True)
class Lorebook:
    """The enabled entries that have content. `budget` is in tokens; None if it sets none."""

    name: str
    entries: tuple[Entry, ...] = ()
    budget: int | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)


def read_lorebook(path: Path) -> Lorebook:
    """The lorebook in a JSON file: world info, a V3 book or a card's. Raises StoryError."""
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        return lorebook_in(data, path.stem)
    except StoryError as error:
        raise StoryError(f"{path}: {error}") from None


def lorebook_in(data: bytes, name: str) -> Lorebook:
    """The lorebook in a file's bytes; `name` is for one that has none. Raises StoryError."""
    top = parse(data)
    book: dict[str, Any] = top["data"] if isinstance(top.get("data"), dict) else top
    if "entries" not in book and isinstance(book.get("character_book"), dict):
        book = book["character_book"]
    if not isinstance(book.get("entries"), dict | list):
        raise StoryError("it is not a lorebook: it has no entries")
    return lorebook_from(book, name)


def lorebook_from(found: Mapping[str, Any], name: str) -> Lorebook:
    """The lorebook in a JSON object with `entries`; `name` is used if it has none."""
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
    unsupported: Counter[str] = Counter()
    plain = (Fields(_plain(each.members), odd, each.where) for each in book.tables("entries"))
    read = (_entry(fields, defaults, unsupported) for fields in plain)
    entries = [entry for entry in read if entry is not None]
    remarks = [f"{n} of {len(entries)} entries {what}" for what, n in unsupported.items() if n]
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        remarks.append(f"ignored, of the wrong type: {', '.join(odd[:3])}{more}")
    budget = book.whole("tokenbudget", 0)
    return Lorebook(name, tuple(entries), budget or None, tuple(remarks))


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    extensions = found.get("extensions")
    both = {**found, **(extensions if isinstance(extensions, dict) else {})}
    return {
        name.replace("_", "").lower(): value for name, value in both.items() if value is not None
    }


def _entry(fields: Fields, book: Entry, unsupported: Counter[str]) -> Entry | None:
    """One entry with the book's defaults; None if it is disabled or empty."""
    decorators, content = decorated(fields.text("content"))
    is_enabled = fields.flag("enabled", True) and not fields.flag("disable")
    if not is_enabled or not content.strip() or decorators.flag("dont_activate"):
        return None
    for name, what in _UNSUPPORTED.items():
        unsupported[what] += fields.truth(name)
    keys, conditions = _keys(fields, decorators)
    position, depth = _position(fields, decorators, unsupported)
    label = fields.text("comment") or fields.text("name") or (keys[0].text if keys else content)
    entry = replace(
        book,
        uid=_uid(keys, content),
        label=one_line(label)[:60],
        content=content.strip(),
        keys=keys,
        conditions=conditions,
        is_constant=_is_constant(fields) or decorators.flag("activate"),
        position=position,
        depth=depth,
        scan_depth=decorators.whole(
            "scan_depth", fields.whole("scandepth", book.scan_depth, high=MAX_SCAN_DEPTH)
        ),
    )
    return _with_recursion(_with_timing(_with_priority(entry, fields), fields, decorators), fields)


_UNSUPPORTED = {
    "usegroupscoring": "choose the best match of their group; here the choice is random",
    "vectorized": "can match by similarity in SillyTavern; here only by their keys",
    "triggers": "have triggers, which are ignored",
}


def _uid(keys: Iterable[Key], content: str) -> str:
    digest = hashlib.sha256("\0".join((*(key.text for key in keys), content)).encode())
    return digest.hexdigest()[:12]


def _with_priority(entry: Entry, fields: Fields) -> Entry:
    order = fields.number("insertionorder", fields.number("order", 100.0)) or 0.0
    has_chance = fields.flag("useprobability", True)
    return replace(
        entry,
        order=order,
        rank=fields.number("priority", order) or 0.0,
        probability=(fields.number("probability", 100.0) or 0.0) if has_chance else 100,
        groups=frozenset(filter(None, map(str.strip, fields.text("group").split(",")))),
        weight=max(0.0, fields.number("groupweight", 100.0) or 0.0),
        goes_first=fields.flag("groupoverride"),
    )


def _with_timing(entry: Entry, fields: Fields, decorators: Fields) -> Entry:
    stays_active = decorators.flag("keep_activate_after_match")
    is_used_once = decorators.flag("dont_activate_after_match")
    return replace(
        entry,
        sticky=ALWAYS if stays_active else fields.whole("sticky", 0),
        cooldown=ALWAYS if is_used_once else fields.whole("cooldown", 0),
        delay=fields.whole("delay", 0),
        answers=decorators.whole("activate_only_after", 0),
        every=max(1, decorators.whole("activate_only_every", 1)),
        greeting=decorators.whole("is_greeting", 0) if "is_greeting" in decorators else None,
    )


def _with_recursion(entry: Entry, fields: Fields) -> Entry:
    return replace(
        entry,
        can_match_others=not fields.flag("preventrecursion"),
        can_be_matched_by_others=not fields.flag("excluderecursion"),
        only_by_others=fields.truth("delayuntilrecursion"),
    )


def _is_constant(fields: Fields) -> bool:
    return fields.flag("constant") and not fields.flag("useregex")  # V3: then it is ignored


def _keys(fields: Fields, decorators: Fields) -> tuple[tuple[Key, ...], tuple[Condition, ...]]:
    """The keys of an entry and its conditions."""
    has_case, is_word = fields.flag("casesensitive"), fields.flag("matchwholewords", True)
    is_regex = fields.flag("useregex")

    def keys(*texts: str) -> tuple[Key, ...]:
        stripped = (text.strip() for text in texts)
        return tuple(Key(text, is_regex, has_case, is_word) for text in stripped if text)

    others = keys(*fields.texts("secondarykeys"), *fields.texts("keysecondary"))
    if is_regex or not fields.flag("selective", bool(others)):  # V3: ignored beside regexes
        others = ()
    conditions = (
        Condition(_LOGIC[fields.whole("selectivelogic", 0, high=3)], others),
        Condition("any", keys(*decorators.texts("additional_keys"))),
        Condition("not any", keys(*decorators.texts("exclude_keys"))),
    )
    own = keys(*fields.texts("keys"), *fields.texts("key"))
    return own, tuple(condition for condition in conditions if condition.keys)


def _position(fields: Fields, decorators: Fields, unsupported: Counter[str]) -> tuple[str, int]:
    """The position of an entry, and its depth if that is "depth"."""
    named = {"before_desc": "before", "after_desc": "after"}.get(decorators.text("position"))
    if named:
        return named, 0
    if "depth" in decorators:
        return "depth", decorators.whole("depth", 4)
    if fields.is_text("position"):
        return ("before" if fields.text("position") == "before_char" else "after"), 0
    position = fields.whole("position", 1)
    if position in (2, 3):  # above and below the author's note
        return "depth", 4
    if position not in _POSITIONS:
        unsupported["have a position that is not supported; they go after the card"] += 1
    return _POSITIONS.get(position, "after"), fields.whole("depth", 4)
