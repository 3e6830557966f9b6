"""Character cards of every version, whole, damaged and hostile."""

from __future__ import annotations

import base64
import json
import os
import random
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.runner.story.card import Card, DepthPrompt, card_in, read_card
from franken_gguf.runner.story.card_fields import StoryError
from franken_gguf.runner.story.lorebook import lorebook_from
from support.cards import SIGNATURE, V1, V2, V3, charx, chunk, mutated, png, text_chunk


def as_json(card: object) -> bytes:
    return json.dumps(card).encode()


def packed(card: object) -> bytes:
    return base64.b64encode(as_json(card))


MARA = Card(
    "Mara",
    "V1",
    description=V1["description"],
    personality="dry, patient",
    scenario=V1["scenario"],
    greetings=(V1["first_mes"],),
    mes_example=V1["mes_example"],
)
MARA_2 = replace(
    MARA,
    spec="V2",
    greetings=(V1["first_mes"], "The lamp is out.", "You again."),
    creator_notes="Made for storms.",
    system_prompt="{{original}} You are {{char}}.",
    post_history_instructions="Stay in the storm.",
    depth_prompt=DepthPrompt("The wind howls.", 2),
    book=lorebook_from(V2["data"]["character_book"], "Mara"),
    creator="the tests",
    version="1.1",
    tags=("sea", "storm"),
)
MARA_3 = replace(MARA_2, spec="V3", nickname="Mags", group_greetings=("More of you?",))


@pytest.mark.parametrize(("written", "read"), [(V1, MARA), (V2, MARA_2), (V3, MARA_3)])
def test_each_versions_fields_are_read_from_each_kind_of_file(
    written: dict[str, Any], read: Card
) -> None:
    assert card_in(as_json(written)) == read
    assert card_in(charx(written)) == read
    deflated = b"\0\0" + zlib.compress(packed(written))
    for part in (
        text_chunk("ccv3", written),
        text_chunk("chara", written),
        text_chunk("Chara", written),
        chunk(b"zTXt", b"chara" + deflated),
        chunk(b"iTXt", b"chara\0\1\0en\0" + deflated[1:]),
        chunk(b"iTXt", b"chara\0\0\0\0\0" + packed(written)),
        chunk(b"tEXt", b"chara\0" + as_json(written)),
    ):
        assert card_in(png(part)) == read


def test_ccv3_goes_before_chara_wherever_they_stand() -> None:
    three, two = text_chunk("ccv3", V3), text_chunk("chara", V2)
    assert card_in(png(three, two)).spec == card_in(png(two, three)).spec == "V3"


def test_a_damaged_ccv3_leaves_the_older_card_and_says_so() -> None:
    damaged = bytearray(text_chunk("ccv3", V3))
    damaged[20] ^= 1
    card = card_in(png(bytes(damaged), text_chunk("chara", V2)))
    assert card.spec == "V2"
    assert card.remarks == (
        "its text chunk 'ccv3' cannot be read: its checksum is wrong: the file is damaged",
    )


def test_a_cut_picture_still_gives_a_card_that_came_whole() -> None:
    whole = png(text_chunk("chara", V1))
    end = whole.index(b"IDAT")
    assert card_in(whole[: end + 9]).name == "Mara"


def test_the_nickname_stands_for_char() -> None:
    assert card_in(as_json(V3)).char == "Mags"
    assert card_in(as_json(V2)).char == "Mara"


@pytest.mark.parametrize(
    ("language", "notes"), [("de", "Für Stürme."), ("en", "Made for storms."), ("fr", "")]
)
def test_notes_of_the_creator_come_in_the_users_language(language: str, notes: str) -> None:
    card = {**V3, "data": {**V3["data"]}}
    if language == "fr":
        card["data"]["creator_notes"] = ""
    assert card_in(as_json(card), language).creator_notes == notes


def test_a_newer_specification_is_read_as_far_as_it_is_known_and_named() -> None:
    card = card_in(as_json({**V3, "spec": "chara_card_v4", "spec_version": "4.1"}))
    assert card.description == V1["description"]
    assert card.remarks == ("unknown specification chara_card_v4 4.1, read as V3",)
    assert card_in(as_json({**V3, "spec_version": "3.2"})).remarks != ()
    assert card_in(as_json({**V3, "spec_version": 3})).remarks == ()


def test_what_is_of_another_kind_is_left_out_and_named() -> None:
    card = card_in(
        as_json(
            {
                "name": ["x"],
                "description": "d",
                "scenario": None,
                "alternate_greetings": [1, "Hi"],
                "tags": 5,
                "first_mes": {},
            }
        )
    )
    assert (card.name, card.scenario, card.greetings) == ("Character", "", ("Hi",))
    assert card.remarks == (
        "the card has no name; {{char}} is 'Character'",
        "ignored, of the wrong type: name, name, first_mes and 2 more",
    )


def test_names_are_one_line_and_texts_steer_no_terminal() -> None:
    card = card_in(
        as_json({"name": "../../etc\n\x1b[31mMara\u0000", "first_mes": "a\r\nb\x1b\x9b\ud800"})
    )
    assert card.name == "../../etc [31mMara"
    assert card.greetings == ("a\nb?",)


CARD = "a character card is a PNG picture, a JSON or a CHARX file"
BOMB = b"\0\0" + zlib.compress(b" " * (1 << 27))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", f"^it is empty; {CARD}$"),
        (b"Once upon a time\n", f"^it is text, not JSON; {CARD}$"),
        (b"\xff\xfe", f"^it is not UTF-8 text; {CARD}$"),
        (b"GGUF\3\0\0\0", f"^it is a GGUF file; {CARD}$"),
        (b"\xff\xd8\xff\xe0", f"^it is a JPEG picture; {CARD}$"),
        (b'{\n"name": Mara}', "^its JSON is damaged at line 2, column 9$"),
        (b"[]", "its JSON is not an object"),
        (b'{"name": "Mara"}', "not a character card: it has none of description, personality"),
        (b'{"entries": {}}', "it is a lorebook, not a card; give it as --lorebook"),
        (b'{"a":' * 10_000, "nested too deeply|is damaged"),
        (b'{"description": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
        (b"[" + b"[]," * (1 << 20) + b"[]]", "more than 1048576 elements"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "a number of too many digits"),
        (as_json({"scenario": "x" * 1_048_570}), "its texts have 1048581 characters; the limit"),
        (SIGNATURE, "the picture has no card"),
        (png(), "the picture has no card: there is no text chunk 'ccv3' or 'chara'"),
        (png(chunk(b"tEXt", b"chara")), "'chara' .* it has no text after its keyword"),
        (png(chunk(b"tEXt", b"chara\0!!!!")), "'chara' .* it is not base64"),
        (png(chunk(b"tEXt", b"chara\0" + base64.b64encode(b"no"))), "it is text, not JSON$"),
        (png(chunk(b"zTXt", b"chara" + BOMB)), "it unpacks to more than 42 MiB"),
        (png(chunk(b"iTXt", b"chara\0\1\0\0" + BOMB[1:])), "it unpacks to more than 42 MiB"),
        (png(chunk(b"zTXt", b"chara\0\0" + zlib.compress(b"x" * 99)[:-6])), "is cut"),
        (png(chunk(b"zTXt", b"chara\0\0xx")), "damaged"),
        (png(chunk(b"zTXt", b"chara\0\7xx")), "its compression is unknown"),
        (png(chunk(b"iTXt", b"chara\0\0\0\0")), "it is cut"),
        (SIGNATURE + b"\xff\xff\xff\xfftEXtchara\0e30=", "the picture has no card"),
        (charx(V3, "other.json"), "an archive without a card.json"),
        (charx(V3)[:-30], "its archive is damaged"),
    ],
)
def test_a_file_without_a_card_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(StoryError, match=reason) as caught:
        card_in(data)
    assert "\n" not in str(caught.value)


def test_an_error_names_the_file_and_only_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "model.gguf").open("wb") as large:
        large.truncate((1 << 26) + 1)
    for name, reason in (
        ("a.json", "it is not a character card"),
        ("model.gguf", f"it is larger than 64 MiB; {CARD}$"),
        ("none.png", "no such file"),
        ("pipe", "not a file"),
        (".", "not a file"),
    ):
        with pytest.raises(StoryError, match=reason) as caught:
            read_card(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_ten_thousand_mutations_give_a_card_or_one_line_in_bounded_time_and_memory() -> None:
    dice = random.Random(20)
    seeds = [
        as_json(V3),
        png(text_chunk("ccv3", V3), text_chunk("chara", V2)),
        # Without a checksum in the way, and no base64: what is inside changes.
        chunk(b"zTXt", b"chara\0\0" + zlib.compress(as_json(V2))),
        charx(V3),
    ]
    read = refused = 0
    slowest = 0.0
    tracemalloc.start(1)
    for number in range(10_000):
        seed = seeds[number % 4]
        data = mutated(seed, dice)
        if seed is seeds[2]:  # its own checksum, over what it holds now
            data = png(chunk(b"zTXt", data[8:-4]))
        started = time.process_time()
        try:
            card = card_in(data)
            assert card.name
            read += 1
        except StoryError as error:
            assert "\n" not in str(error)
            refused += 1
        slowest = max(slowest, time.process_time() - started)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read > 500
    assert refused > 500
    assert slowest < 2
    assert peak < 1 << 27
