"""The other views of a story: branches, notebook, reading, files in and out, words, context."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, expect

from support.desk import Desk, desk
from support.models import demo_gguf
from support.servers import serving

TALE = (("user", "Hello"), ("assistant", "Good day."), ("user", "And?"), ("assistant", "Rain."))


def test_a_branch_goes_on_in_a_copy_and_the_tree_shows_both(page: Desk) -> None:
    page.begin("Root", *TALE)
    page.button("Branch", page.message(1)).click()
    expect(page.page.locator("h1")).to_have_text("Root 2")
    page.say("Another way.")
    assert page.lines("Root") == [text for _, text in TALE]
    page.view("Branches")
    branch = page.page.locator(".tree li").filter(has_text="Root 2")
    expect(branch).to_contain_text("4 messages, the first 2 shared")
    expect(branch).to_contain_text("Another way.")
    page.page.locator(".tree button").first.click()
    expect(page.page.locator("h1")).to_have_text("Root")
    expect(page.button("↳ Root 2")).to_be_visible()


def test_the_notebook_is_one_text_that_both_write_on(page: Desk) -> None:
    page.begin("Notes", *TALE)
    page.view("Notebook")
    sheet = page.page.get_by_role("textbox", name="The story as one text")
    expect(sheet).to_have_value("Hello\n\nGood day.\n\nAnd?\n\nRain.")
    sheet.fill("Hello\n\nGood night, you.\n\nAnd?\n\nRain.")
    sheet.fill("Hello\n\nGood night, you.\n\nAnd?\n\nRain fell on the")
    sheet.press("Control+Enter")
    expect(page.button("Stop")).to_be_visible()
    page.answered()
    lines = page.lines("Notes")
    assert lines[:3] == ["Hello", "Good night, you.", "And?"]
    assert lines[3].startswith("Rain fell on the ")
    expect(sheet).to_have_value("\n\n".join(lines))


def test_a_notebook_that_is_left_is_saved(page: Desk) -> None:
    page.begin("Left", *TALE)
    page.view("Notebook")
    page.page.get_by_role("textbox", name="The story as one text").fill("All gone but this.")
    page.view("Write")
    expect(page.message(0)).to_contain_text("All gone but this.")
    assert page.lines("Left") == ["All gone but this."]


def test_reading_shows_the_text_alone_and_escape_leaves(page: Desk) -> None:
    page.begin("Read", *TALE)
    page.view("Read")
    expect(page.page.get_by_role("textbox")).to_have_count(0)
    assert page.texts() == [text for _, text in TALE]
    page.page.keyboard.press("Escape")
    expect(page.page.get_by_role("textbox", name="say or do")).to_be_visible()


@pytest.mark.parametrize("form", ["Markdown", "SillyTavern chat (JSONL)"])
def test_a_story_is_exported_as_the_server_writes_it(page: Desk, form: str) -> None:
    page.begin(f"Out {form[:3]}", *TALE)
    page.button("Export…").click()
    page.page.get_by_label(form).check()
    with page.page.expect_download() as download:
        page.button("Save").click()
    text = Path(download.value.path()).read_text()
    assert all(line in text for _, line in TALE)


def test_an_epub_of_the_narrator_alone_leaves_the_user_out(page: Desk) -> None:
    page.begin("Book", *TALE)
    page.button("Export…").click()
    page.page.get_by_label("EPUB").check()
    page.page.get_by_label("Only what the model wrote").check()
    with page.page.expect_download() as download:
        page.button("Save").click()
    assert download.value.suggested_filename == "Book.epub"
    with zipfile.ZipFile(download.value.path()) as book:
        assert book.testzip() is None
        assert book.infolist()[0].filename == "mimetype"
        assert book.read("mimetype") == b"application/epub+zip"
        for name in ("META-INF/container.xml", "book.opf", "contents.xhtml", "story.xhtml"):
            ElementTree.fromstring(book.read(name))
        story = book.read("story.xhtml").decode()
    assert "<p>Rain.</p>" in story and "And?" not in story


def test_a_sillytavern_chat_is_imported(page: Desk, tmp_path: Path) -> None:
    page.begin("Away", *TALE)
    file = tmp_path / "Home.jsonl"
    with page.server.response("GET", "/api/stories/Away/export?form=jsonl") as response:
        file.write_bytes(response.read())
    page.page.locator("#stories input[type=file]").set_input_files(file)
    expect(page.page.locator("h1")).to_have_text("Home")
    assert page.texts() == [text for _, text in TALE]


def test_another_word_is_chosen_and_the_story_goes_on_from_it(page: Desk) -> None:
    page.begin("Words")
    page.say("Tell me a story.")
    before = page.lines("Words")[1]
    page.button("Words", page.message(1)).click()
    words = page.page.locator(".words [role=button]")
    assert "".join(words.all_text_contents()) == before
    words.nth(2).click()
    other = page.page.locator(".alternatives button").first
    chosen = (other.text_content() or "").rsplit(" ", 2)[0].strip().replace("␣", " ")
    start = "".join(words.all_text_contents()[:2]) + chosen
    other.click()
    expect(page.message(1)).to_contain_text("2/2")
    message = page.story("Words")["messages"][1]
    assert message["text"].startswith(start) and message["swipes"][0] == before


def test_words_are_colored_by_the_experts_that_chose_them(browser: Browser, tmp_path: Path) -> None:
    options = ("--experts", "--expert-names", "storyteller,reasoner,poet,chatterbox")
    with (
        serving(tmp_path, *options, model=demo_gguf("Q4_K_M")) as server,
        desk(browser, server) as page,
    ):
        page.begin("Experts")
        page.say("Tell me a story.")
        page.button("Words", page.message(1)).click()
        # The last token is not evaluated, so no expert was chosen for it.
        assert page.page.locator(".words [class^=expert-]").count() == 7
        expect(page.page.locator(".legend")).to_contain_text("%")
        names = " ".join(page.page.locator(".legend span").all_inner_texts())
        assert set(names.split()) & {"storyteller", "reasoner", "poet", "chatterbox"}


def test_the_context_panel_adds_up_to_what_the_model_reads(page: Desk) -> None:
    page.begin("Context", *TALE)
    prompt = page.server.get("/api/stories/Context/prompt")
    panel = page.panel("Context")
    expect(panel).to_contain_text(f"{prompt['tokens']} of 1,024 tokens")
    tokens = panel.locator(".parts small").all_inner_texts()
    assert sum(map(int, tokens)) == prompt["tokens"]
