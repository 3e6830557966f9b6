"""A story as a file to read: what a browser shows of it, and nothing of it that does anything."""

from __future__ import annotations

import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from franken_gguf.runner.conversation.conversation import NOTE, Conversation, Message
from franken_gguf.runner.conversation.export import write_transcript
from franken_gguf.runner.conversation.export_html import page
from franken_gguf.runner.conversation.session import read_chat
from franken_gguf.runner.conversation.session_format import SessionError
from support.browser import chromium

HOSTILE = "</p></article><script>document.title='owned'</script><img src=x onerror=alert(1)> & {x}"
TALK = Conversation(
    "Be kind.",
    [
        Message("user", f"Tell me\n\n  more. {HOSTILE}"),
        Message(NOTE, "unseen"),
        Message("assistant", "*She nods.* **No.**\x1b[31m 3 * 4", extra_fields={"name": "Se<i>ra"}),
    ],
)


def test_a_browser_shows_the_chat_in_light_and_dark_and_runs_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "A <b>tale.html"
    write_transcript(path, TALK, "m")
    with chromium() as browser:
        for dark, paper in ((False, 255), (True, 18)):
            browser.open(path, width=400, dark=dark)
            assert browser.value("document.title") == "A <b>tale"
            assert browser.value(
                "[...document.querySelectorAll('h2, p')].map(e => e.innerText)"
            ) == [
                "User",
                f"Tell me\n\n  more. {HOSTILE}",
                "Se<i>ra",
                "She nods. No. 3 * 4",
            ]
            emphasis = "[...document.querySelectorAll('em, strong')].map(e => e.innerText)"
            assert browser.value(emphasis) == ["She nods.", "No."]
            assert browser.value("document.documentElement.scrollWidth") == 400
            fetched = browser.said("Network.requestWillBeSent")
            assert [one["request"]["url"] for one in fetched] == [path.as_uri()]
            assert browser.said("Log.entryAdded", "Runtime.exceptionThrown") == []
            browser.screenshot(tmp_path / "page.png")
            with Image.open(tmp_path / "page.png") as image:
                assert image.convert("L").getpixel((2, 2)) == paper


class Tags(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, _: object) -> None:
        self.found.add(tag)


@given(st.text(), st.text(), st.booleans())
def test_no_text_is_ever_more_than_text(name: str, text: str, is_user: bool) -> None:
    found = Tags(page(name, [(name, text, is_user)])).found
    written = Tags(page("", [("", "*a* **b**", is_user)])).found
    assert found <= written


@pytest.mark.parametrize("suffix", [".md", ".txt", ".html", ".jsonl"])
def test_a_file_is_written_whole_for_its_owner_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tale{suffix}"
    # JSON can spell half a character in a name, which no file takes.
    write_transcript(
        path, Conversation(messages=[Message("user", "Hi", extra_fields={"name": "\ud83d"})]), ""
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    before = path.read_bytes()
    with pytest.raises(SessionError, match="already exists; choose another name"):
        write_transcript(path, TALK, "")
    assert path.read_bytes() == before


def test_sillytaverns_form_loses_nothing(tmp_path: Path) -> None:
    write_transcript(tmp_path / "tale.jsonl", TALK, "m")
    assert read_chat(tmp_path / "tale.jsonl").messages == TALK.messages


def test_an_unknown_form_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        SessionError,
        match=r"tale\.doc: unknown format; use a name that ends in \.md, \.txt, \.html or \.jsonl",
    ):
        write_transcript(tmp_path / "tale.doc", TALK, "")
