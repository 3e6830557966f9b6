"""The alternatives of an answer, as SillyTavern stores them in its message; pure.

`swipes` are their texts, `swipe_id` is the index of the one that is shown, and `swipe_info` has the
other fields of each: its date, when it was generated, its `extra`.
"""

from __future__ import annotations

from typing import Any

from .conversation import Message

_PER_SWIPE = ("gen_started", "gen_finished", "extra")  # fields of the swipe that is shown


def has_swipes(message: Message) -> bool:
    """Whether the message has a valid list of swipes: texts only."""
    texts = message.extra_fields.get("swipes")
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)


def swipes(message: Message) -> tuple[list[str], int]:
    """The texts of all alternatives and the index of the one that is shown.

    Without swipes, the message is the only one. If the index is invalid, the shown text is looked
    up, and added if it is not in the list.
    """
    if not has_swipes(message):
        return [message.content], 0
    texts, place = message.extra_fields["swipes"], message.extra_fields.get("swipe_id")
    if type(place) is not int or not 0 <= place < len(texts):
        known = message.content in texts
        place = texts.index(message.content) if known else len(texts)
    return [*texts[:place], message.content, *texts[place + 1 :]], place


def with_swipe(message: Message, text: str, date: str) -> Message:
    """The message with one more alternative, which is shown from now on."""
    texts, place = swipes(message)
    known = [*_infos(message, len(texts), place)[: len(texts)], {"send_date": date, "extra": {}}]
    return _showing(message, [*texts, text], known, len(texts))


def with_shown(message: Message, place: int) -> Message:
    """The message with the alternative at index `place` shown. Raises IndexError."""
    texts, before = swipes(message)
    return _showing(message, texts, _infos(message, len(texts), before), range(len(texts))[place])


def _infos(message: Message, count: int, place: int) -> list[dict[str, Any]]:
    found = message.extra_fields.get("swipe_info")
    infos = [info if isinstance(info, dict) else {} for info in _list(found)]
    infos += [{} for _ in range(count - len(infos))]
    own = {key: message.extra_fields[key] for key in _PER_SWIPE if key in message.extra_fields}
    infos[place] = {**infos[place], "send_date": message.date, **own}
    return infos


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _showing(
    message: Message, texts: list[str], infos: list[dict[str, Any]], place: int
) -> Message:
    info = infos[place]
    kept = {key: value for key, value in message.extra_fields.items() if key not in _PER_SWIPE}
    kept |= {key: info[key] for key in _PER_SWIPE if key in info}
    kept |= {"swipes": texts, "swipe_id": place, "swipe_info": infos}
    text = texts[place].encode(errors="replace").decode()  # JSON can spell half a character
    return Message(message.role, text, str(info.get("send_date", message.date)), kept)
