"""Lorebooks for the tests: both forms, and what a moment calls for."""

from __future__ import annotations

from typing import Any

from franken_gguf.runner.story.active_lore import Lore, LoreMatch, Moment
from franken_gguf.runner.story.lorebook import Lorebook, lorebook_from


def book(*entries: dict[str, Any], **settings: Any) -> Lorebook:
    """A card's book: entries of V2's form, filled up."""
    filled = [
        {"keys": [], "content": "x", "enabled": True, "insertion_order": 100, "extensions": {}}
        | {"name": f"e{number}"}
        | entry
        for number, entry in enumerate(entries)
    ]
    return lorebook_from({"entries": filled, **settings}, "book")


def called(lorebook: Lorebook, *texts: str, **moment: Any) -> list[LoreMatch]:
    """What the latest text and those before it call for; the last of `texts` is the newest."""
    return Lore([lorebook]).matches(Moment(tuple(reversed(texts)), **moment))


def active(lorebook: Lorebook, *texts: str, **moment: Any) -> list[str]:
    return [one.entry.label for one in called(lorebook, *texts, **moment) if one.is_active]


def reasons(lorebook: Lorebook, *texts: str, **moment: Any) -> list[str]:
    return [one.reason for one in called(lorebook, *texts, **moment)]


WORLD_INFO: dict[str, Any] = {
    "entries": {
        "0": {
            "uid": 0,
            "key": ["lamp", "/wicks?/i"],
            "keysecondary": ["oil", "fire"],
            "comment": "Lamp",
            "content": "It burns.",
            "constant": False,
            "selective": True,
            "selectiveLogic": 3,
            "order": 7,
            "position": 4,
            "disable": False,
            "excludeRecursion": True,
            "preventRecursion": True,
            "delayUntilRecursion": 1,
            "probability": 60,
            "useProbability": True,
            "depth": 3,
            "scanDepth": 5,
            "caseSensitive": True,
            "matchWholeWords": False,
            "sticky": 3,
            "cooldown": 2,
            "delay": None,
            "role": 0,
        },
        "1": {"uid": 1, "key": ["gone"], "content": "Off.", "disable": True},
    }
}
# The same in the form that SillyTavern writes into a card.
IN_A_CARD: dict[str, Any] = {
    "name": "world",
    "extensions": {},
    "entries": [
        {
            "id": 0,
            "keys": ["lamp", "/wicks?/i"],
            "secondary_keys": ["oil", "fire"],
            "comment": "Lamp",
            "content": "It burns.",
            "constant": False,
            "selective": True,
            "insertion_order": 7,
            "enabled": True,
            "position": "after_char",
            "extensions": {
                "position": 4,
                "selectiveLogic": 3,
                "exclude_recursion": True,
                "prevent_recursion": True,
                "delay_until_recursion": 1,
                "probability": 60,
                "useProbability": True,
                "depth": 3,
                "scan_depth": 5,
                "case_sensitive": True,
                "match_whole_words": False,
                "sticky": 3,
                "cooldown": 2,
                "delay": None,
            },
        },
        {"keys": ["gone"], "content": "Off.", "enabled": False, "insertion_order": 1},
    ],
}
