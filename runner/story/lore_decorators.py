"""V3's decorators: lines "@@name value" before an entry's content; "@@@" marks a fallback."""

from __future__ import annotations

from .card_fields import Fields

_KNOWN = {
    "activate": bool,
    "activate_only_after": int,
    "activate_only_every": int,
    "additional_keys": list,
    "depth": int,
    "dont_activate": bool,
    "dont_activate_after_match": bool,
    "exclude_keys": list,
    "is_greeting": int,
    "keep_activate_after_match": bool,
    "position": str,
    "scan_depth": int,
}
_POSITIONS = ("before_desc", "after_desc")


def decorated(content: str) -> tuple[Fields, str]:
    """The known decorators, the first of each name, and the content without decorators."""
    found: dict[str, object] = {}
    lines = content.split("\n")
    is_taken = False  # whether the last decorator was, so that its fallbacks are skipped
    place = 0
    for place, line in enumerate(lines):  # noqa: B007 - where the content begins
        text = line.strip()
        if not text.startswith("@@"):
            if text:
                break
            continue
        name, _, value = text.lstrip("@").partition(" ")
        if text.startswith("@@@") and is_taken:
            continue
        is_taken = _is_valid(name, value.strip())
        if is_taken:
            kind = _KNOWN[name]
            found.setdefault(name, True if kind is bool else value.strip())
    else:
        place += 1
    if "activate" in found:
        found.pop("dont_activate", None)
    return Fields(found, []), "\n".join(lines[place:])


def _is_valid(name: str, value: str) -> bool:
    kind = _KNOWN.get(name)
    if kind is int:
        return value.isascii() and value.isdecimal() and len(value) < 10
    if name == "position":
        return value in _POSITIONS
    return kind is bool or (kind is list and bool(value))
