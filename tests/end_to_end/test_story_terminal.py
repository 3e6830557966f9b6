"""Stories at a terminal: cards, lorebooks and notes, as people tell them."""

from __future__ import annotations

import json
from pathlib import Path

from support.cards import V1, V3, png, text_chunk
from support.models import smollm2
from support.terminals import CTRL_D, ENTER, Terminal

FIGURES = r"\[\d+ tokens, [^\n]*\]"


def story(*options: str, columns: int = 200, **variables: str) -> Terminal:
    fixed = ("--temp", "0", "-t", "1", "-c", "1024", "-n", "12")
    return Terminal("chat", str(smollm2()), *fixed, *options, columns=columns, **variables)


def mara(folder: Path) -> str:
    path = folder / "mara.png"
    path.write_bytes(png(text_chunk("ccv3", V3)))
    return str(path)


def test_a_card_greets_and_plays_and_its_session_needs_no_card_again(tmp_path: Path) -> None:
    home = str(tmp_path)
    persona = tmp_path / "Ann.txt"
    persona.write_text("{{user}} mends clocks.")
    options = ("--character", mara(tmp_path), "--persona", str(persona), "--session", "s")
    with story(*options, XDG_DATA_HOME=home) as told:
        told.wait_for("Mara, creator's notes:\r?\nMade for storms.")
        told.wait_for("Come in, Ann, before the sea does.")
        told.at_prompt("Who are you?" + ENTER)
        told.wait_for(FIGURES)
        assert told.leave(CTRL_D) == 0
        assert "Traceback" not in told.screen
    with story("--session", "s", XDG_DATA_HOME=home) as again:
        assert "creator's notes" not in again.wait_for("resumed 's', 3 messages")
        again.at_prompt("/tokens" + ENTER)
        count = again.wait_for(r"the conversation takes \d+ of 1024 tokens")
        assert int(count.split(" of ")[0].split()[-1]) > 120
        again.at_prompt("/persona" + ENTER)
        again.wait_for("you are Ann\r?\n{{user}} mends clocks.")
        assert again.leave(CTRL_D) == 0


def test_a_damaged_card_is_one_line_before_the_model_is_loaded(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(png())
    with story("--character", str(bad)) as refused:
        refused.wait_for("Error: .*bad.png: the picture has no card")
        assert "loading" not in refused.text


def test_several_characters_are_told_apart_and_looked_at(tmp_path: Path) -> None:
    bo = tmp_path / "bo.json"
    bo.write_text(json.dumps({**V1, "name": "Bo", "scenario": "He rows. " * 50}))
    home = str(tmp_path)
    options = ("--character", mara(tmp_path), "--character", str(bo), "-c", "512")
    with story(*options, XDG_DATA_HOME=home, COLORTERM="truecolor") as told:
        told.wait_for("the story takes [0-9]+ of the context.s 512 tokens; give a larger -c")
        told.wait_for("Mags: Come in, User, before the sea does.")
        for line, shown in (
            ("/swipe 4", "answer 4 of 4\r?\nMags: More of you\\?"),
            ("/as Bo", f"Bo: (.|\n)*{FIGURES}"),
            ("/character mara", "called Mags"),
            ("/character Bo", "V1 card"),
            ("/as Nobody", "Error: no character is named 'Nobody'; choose Mags, Bo"),
        ):
            told.at_prompt(line + ENTER)
            told.wait_for(shown)
        assert told.leave(CTRL_D) == 0
        assert "Traceback" not in told.screen
        assert "\N{UPPER HALF BLOCK}" in told.screen
