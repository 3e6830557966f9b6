"""Reads character cards of the specifications V1, V2 and V3 from PNG, JSON and CHARX files.

https://github.com/malfoyslastname/character-card-spec-v2 (V1 and V2) and
https://github.com/kwaroran/character-card-spec-v3. Assets and their URIs are never followed.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import png_text
from .card_fields import (
    MAX_JSON_BYTES,
    Fields,
    NotJsonError,
    StoryError,
    one_line,
    parse,
    read_bytes,
)
from .lorebook import Lorebook, lorebook_from

MAX_FILE_BYTES = 1 << 26
_NEWEST = 3.0
_MAX_CHARACTERS = 1 << 20  # no context holds more
_MAX_MEMBERS = 10_000
# What zipfile raises, documented or not; RuntimeError means encrypted.
_DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    RuntimeError,
    OSError,
    EOFError,
)
_V1_FIELDS = ("description", "personality", "scenario", "first_mes", "mes_example")
_KEYWORDS = ("ccv3", "chara")  # V3 requires this order
_HINT = "; a character card is a PNG picture, a JSON or a CHARX file"
_OTHER_KINDS = {b"GGUF": "GGUF file", b"\xff\xd8\xff": "JPEG picture", b"RIFF": "WebP picture"}


@dataclass(frozen=True)
class DepthPrompt:
    """SillyTavern's character note: a text that is inserted `depth` messages before the end."""

    text: str
    depth: int


@dataclass(frozen=True)
class Card:
    """A character. Texts are unchanged, with their macros; missing ones are empty."""

    name: str
    spec: str
    """Its specification: "V1", "V2", "V3" or a later one."""
    nickname: str = ""
    description: str = ""
    personality: str = ""
    scenario: str = ""
    greetings: tuple[str, ...] = ()
    """first_mes, then the alternate greetings."""
    group_greetings: tuple[str, ...] = ()
    mes_example: str = ""
    system_prompt: str = ""
    post_history_instructions: str = ""
    depth_prompt: DepthPrompt | None = None
    book: Lorebook | None = None
    creator_notes: str = ""
    creator: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """Problems found while reading it, one line each."""
    path: Path | None = field(default=None, compare=False)
    """The file with its picture; None if it has none."""

    @property
    def char(self) -> str:
        """The value of {{char}}: the nickname (V3) or else the name."""
        return self.nickname or self.name


def read_card(path: Path, language: str = "en") -> Card:
    """The card in a PNG, JSON or CHARX file; `language` (ISO 639-1) selects the creator's notes.

    Raises StoryError, naming the file.
    """
    data = read_bytes(path, MAX_FILE_BYTES, _HINT)
    try:
        card = card_in(data, language)
    except StoryError as error:
        raise StoryError(f"{path}: {error}") from None
    return replace(card, path=path if data.startswith(png_text.SIGNATURE) else None)


def card_in(data: bytes, language: str = "en") -> Card:
    """The card in a file's bytes. Raises StoryError."""
    if data.startswith(png_text.SIGNATURE):
        return _from_png(data, language)
    if data.startswith(b"PK\3\4"):
        return card_from(_in_charx(data), language)
    try:
        return card_from(data, language)
    except NotJsonError as error:
        what = _other_kind(data) or error
        raise StoryError(f"{what}{_HINT}") from None


def _other_kind(data: bytes) -> str:
    """What a file given by mistake is, "" if its first bytes do not tell."""
    return next(
        (f"it is a {one}" for start, one in _OTHER_KINDS.items() if data.startswith(start)), ""
    )


def _from_png(data: bytes, language: str) -> Card:
    found: dict[str, bytes] = {}
    for keyword, chunk in png_text.texts(data):
        found.setdefault(keyword.lower(), chunk)
    failed: list[str] = []
    for keyword in _KEYWORDS:
        if keyword not in found:
            continue
        try:
            json = _unpacked(png_text.text(found[keyword]))
            return card_from(json, language, failed)
        except StoryError as error:
            failed.append(f"its text chunk {keyword!r} cannot be read: {error}")
    raise StoryError(
        failed[-1]
        if failed
        else "the picture has no card: there is no text chunk 'ccv3' or 'chara'"
    )


def _unpacked(text: bytes) -> bytes:
    text = text.translate(None, b" \t\r\n") if not text.lstrip().startswith(b"{") else text
    if text.startswith(b"{"):  # some early tools wrote plain JSON
        return text
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise StoryError("it is not base64") from None


def _in_charx(data: bytes) -> bytes:
    if data.count(b"PK\1\2") > _MAX_MEMBERS:
        raise StoryError(f"its archive contains more than {_MAX_MEMBERS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("card.json") as file:
            json = file.read(MAX_JSON_BYTES + 1)
    except KeyError:
        raise StoryError("an archive without a card.json is not a CHARX file") from None
    except _DAMAGED_ARCHIVE:
        raise StoryError("its archive is damaged or encrypted") from None
    return json


def card_from(json: bytes, language: str = "en", remarks: Sequence[str] = ()) -> Card:
    """The card in `json`; `remarks` are added to its own. Raises StoryError if it is not a card."""
    odd: list[str] = []
    top = Fields(parse(json), odd)
    spec, found = _spec(top)
    data = top.table("data") if "data" in top else top
    name = one_line(data.text("name")) or one_line(top.text("name"))
    if not any(field in data for field in _V1_FIELDS):
        if "entries" in data:
            raise StoryError("it is a lorebook, not a card; give it as --lorebook")
        raise StoryError(f"it is not a character card: it has none of {', '.join(_V1_FIELDS)}")
    if not name:
        found.append("the card has no name; {{char}} is 'Character'")
    first, others = data.text("first_mes"), data.texts("alternate_greetings")
    depth_prompt = data.table("extensions").table("depth_prompt")
    note = depth_prompt.text("prompt").strip()
    book = data.table("character_book").members
    card = Card(
        name or "Character",
        spec,
        nickname=one_line(data.text("nickname")),
        description=data.text("description"),
        personality=data.text("personality"),
        scenario=data.text("scenario"),
        greetings=tuple(filter(str.strip, (first, *others))),
        group_greetings=data.texts("group_only_greetings"),
        mes_example=data.text("mes_example"),
        system_prompt=data.text("system_prompt"),
        post_history_instructions=data.text("post_history_instructions"),
        depth_prompt=DepthPrompt(note, depth_prompt.whole("depth", 4, high=9999)) if note else None,
        book=lorebook_from(book, name) if isinstance(book.get("entries"), list | dict) else None,
        creator_notes=_notes(data, language),
        creator=one_line(data.text("creator")),
        version=one_line(data.text("character_version")),
        tags=tuple(map(one_line, data.texts("tags"))),
    )
    length = sum(len(text) for text in vars(card).values() if isinstance(text, str))
    if length > _MAX_CHARACTERS:
        raise StoryError(f"its texts have {length} characters; the limit is {_MAX_CHARACTERS}")
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        found.append(f"ignored, of the wrong type: {', '.join(odd[:3])}{more}")
    return replace(card, remarks=(*remarks, *found))


def _spec(top: Fields) -> tuple[str, list[str]]:
    """The name of the specification, and remarks about it."""
    spec, version = one_line(top.text("spec")), top.number("spec_version", 0.0) or 0.0
    if not spec:
        return ("V2" if "data" in top else "V1"), []
    known = {"chara_card_v2": "V2", "chara_card_v3": "V3"}
    if spec in known and version <= _NEWEST:
        return known[spec], []
    label = f"{spec} {version:g}" if version else spec
    return label, [f"unknown specification {label}, read as V3"]


def _notes(data: Fields, language: str) -> str:
    by_language = data.table("creator_notes_multilingual")
    plain = data.text("creator_notes") or data.text("creatorcomment")
    if language in by_language:
        return by_language.text(language)
    return by_language.text("en") or plain
