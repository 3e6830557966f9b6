"""A story as a file to read: what a browser shows of it, and nothing of it that does anything."""

from __future__ import annotations

import shutil
import stat
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from franken_gguf.runner.conversation import NOTE, Conversation, Message
from franken_gguf.runner.export import write_transcript
from franken_gguf.runner.export_html import page
from franken_gguf.runner.session import read_chat
from franken_gguf.runner.session_format import SessionError

HOSTILE = "</p></article><script>document.title='owned'</script><img src=x onerror=alert(1)> & {x}"
TALK = Conversation(
    "Be kind.",
    [
        Message("user", f"Tell me\n\n  more. {HOSTILE}"),
        Message(NOTE, "unseen"),
        Message("assistant", "*She nods.* **No.**\x1b[31m 3 * 4", kept={"name": "Se<i>ra"}),
    ],
)


class Seen(HTMLParser):
    """The text of a page's headings and paragraphs, and what elements there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("h2", "p"):
            self.said.append([tag, ""])

    def handle_data(self, data: str) -> None:
        if self.said:
            self.said[-1][1] += data


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium to show the page in: apt install chromium")
    # The tests may run as root, where Chromium's own sandbox refuses to work.
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    return [path, "--headless", "--no-sandbox", "--disable-gpu", profile]


def test_a_browser_shows_what_was_said_and_does_nothing_that_it_says(
    tmp_path: Path, chromium: list[str]
) -> None:
    path = tmp_path / "A <b>tale.html"
    write_transcript(path, TALK, "m")
    command = [*chromium, "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    seen = Seen(shown)
    assert [[tag, text.rstrip("\n")] for tag, text in seen.said] == [
        ["h2", "User"],
        ["p", f"Tell me\n\n  more. {HOSTILE}"],
        ["h2", "Se<i>ra"],
        ["p", "She nods. No. 3 * 4"],
    ]
    assert "<title>A &lt;b&gt;tale</title>" in shown
    assert "<em>She nods.</em> <strong>No.</strong> 3 * 4" in shown
    assert not seen.tags & {"script", "img", "link", "iframe", "i", "b"}


def test_the_page_is_light_by_day_and_dark_by_night(tmp_path: Path, chromium: list[str]) -> None:
    path = tmp_path / "tale.html"
    write_transcript(path, TALK, "m")
    paper = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{name}.png"
        options = [f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"]
        command = [*chromium, *options, "--window-size=600,400", path.as_uri()]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        with Image.open(picture) as image:
            paper[name] = image.convert("L").getpixel((2, 2))
    assert paper["light"] == 255
    assert isinstance(paper["dark"], int) and paper["dark"] < 40


@given(st.text(), st.text(), st.booleans())
def test_no_text_is_ever_more_than_text(name: str, text: str, is_user: bool) -> None:
    seen = Seen(page(name, [(name, text, is_user)]))
    assert seen.tags <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "article", "h2", "p"),
        *("em", "strong"),
    }


@pytest.mark.parametrize("suffix", [".md", ".txt", ".html", ".jsonl"])
def test_a_file_is_written_whole_for_its_owner_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tale{suffix}"
    # JSON can spell half a character in a name, which no file takes.
    write_transcript(
        path, Conversation(messages=[Message("user", "Hi", kept={"name": "\ud83d"})]), ""
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    before = path.read_bytes()
    with pytest.raises(SessionError, match="is there already; take another name"):
        write_transcript(path, TALK, "")
    assert path.read_bytes() == before


def test_sillytaverns_form_loses_nothing(tmp_path: Path) -> None:
    write_transcript(tmp_path / "tale.jsonl", TALK, "m")
    assert read_chat(tmp_path / "tale.jsonl").messages == TALK.messages


def test_an_unknown_form_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"tale\.doc: name it \.md, \.txt, \.html or \.jsonl"):
        write_transcript(tmp_path / "tale.doc", TALK, "")
