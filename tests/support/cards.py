"""Character cards for the tests, written to each version of the specification."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"

V1: dict[str, Any] = {
    "name": "Mara",
    "description": "{{char}} keeps the lighthouse of Skerry Rock.",
    "personality": "dry, patient",
    "scenario": "A storm comes. {{user}} knocks at the door.",
    "first_mes": "Come in, {{user}}, before the sea does.",
    "mes_example": "<START>\n{{user}}: Cold?\n{{char}}: Only the tea.\n<START>\n{{char}}: Listen.",
}

_V2_FIELDS: dict[str, Any] = {
    **V1,
    "creator_notes": "Made for storms.",
    "system_prompt": "{{original}} You are {{char}}.",
    "post_history_instructions": "Stay in the storm.",
    "alternate_greetings": ["The lamp is out.", "You again."],
    "character_book": {
        "name": "Skerry Rock",
        "scan_depth": 3,
        "token_budget": 200,
        "recursive_scanning": True,
        "extensions": {},
        "entries": [
            {
                "keys": ["lamp"],
                "content": "The lamp burns whale oil.",
                "extensions": {},
                "enabled": True,
                "insertion_order": 5,
            }
        ],
    },
    "tags": ["sea", "storm"],
    "creator": "the tests",
    "character_version": "1.1",
    "extensions": {"depth_prompt": {"prompt": "The wind howls.", "depth": 2, "role": "system"}},
}
V2: dict[str, Any] = {"spec": "chara_card_v2", "spec_version": "2.0", "data": _V2_FIELDS}
V3: dict[str, Any] = {
    "spec": "chara_card_v3",
    "spec_version": "3.0",
    "data": {
        **_V2_FIELDS,
        "nickname": "Mags",
        "group_only_greetings": ["More of you?"],
        "creator_notes_multilingual": {"de": "Für Stürme."},
        "assets": [{"type": "icon", "uri": "https://example.com/a.png", "name": "main"}],
    },
}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file, its checksum right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 4, height: int = 6) -> bytes:
    """A red picture with these chunks before its own data, as SillyTavern's writer has them."""
    rows = b"".join(b"\0" + b"\xc0\x20\x20" * width for _ in range(height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return SIGNATURE + header + b"".join(chunks) + end


def text_chunk(keyword: str, card: Mapping[str, Any]) -> bytes:
    """A tEXt chunk: the card in JSON in base64."""
    return chunk(b"tEXt", keyword.encode() + b"\0" + base64.b64encode(json.dumps(card).encode()))


def charx(card: Mapping[str, Any], name: str = "card.json") -> bytes:
    """A CHARX archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, json.dumps(card))
    return data.getvalue()


def mutated(data: bytes, dice: random.Random) -> bytes:
    """`data`, changed at one place or at several."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        place = dice.randrange(len(changed))
        match dice.randrange(4):
            case 0:
                changed[place] ^= 1 << dice.randrange(8)
            case 1:
                del changed[place : place + dice.randrange(1, 40)]
            case 2:
                changed[place:place] = dice.choice(
                    (b"\0", b"{", b"[" * 200, b"\xff" * 4, b'"', b"tEXt", b"1e999", b"null")
                )
            case _:
                changed[place : place + 4] = dice.randbytes(4)
        changed = changed or bytearray(b"\0")
    return bytes(changed)
