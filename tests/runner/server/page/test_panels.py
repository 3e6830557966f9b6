"""The panels: library, memory and notes, sampling, banned phrases; and the server's key."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from support.desk import Desk, desk
from support.models import ROOT
from support.servers import serving

CARD = ROOT / "examples/story/mara.png"
BOOK = ROOT / "examples/story/skerry-rock.json"
DROP = """([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  const how = {dataTransfer: data, bubbles: true, cancelable: true};
  for (const type of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, how));
}"""


def drop(page: Desk, path: Path) -> None:
    page.page.evaluate(DROP, [path.name, list(path.read_bytes())])
    expect(page.page.get_by_text("is in the library")).to_be_visible()


def test_a_dropped_card_and_lorebook_make_a_story_with_a_greeting(page: Desk) -> None:
    drop(page, CARD)
    panel = page.panel("Library")
    expect(panel).to_contain_text("Mara Quill")
    drop(page, BOOK)
    expect(panel).to_contain_text("Skerry Rock")
    panel.locator("summary").first.click()
    expect(panel.locator("dd").first).to_be_visible()
    page.button("New story…").first.click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("With Mara")
    dialog.get_by_label("You are").fill("Tom")
    dialog.get_by_label("Mara Quill").check()
    dialog.get_by_label("Skerry Rock").check()
    page.button("Begin", dialog).click()
    expect(page.message(0)).to_contain_text("1/2")
    story = page.story("With Mara")
    assert (story["user"], story["speakers"]) == ("Tom", ["Mara"]) and len(story["lorebooks"]) == 1
    assert page.message(0).locator(".speech").count() > 0


def test_memory_note_and_name_are_kept_when_one_leaves_the_field(page: Desk) -> None:
    page.begin("Facts")
    panel = page.panel("Story")
    panel.get_by_label("Memory").fill("The ferry is out.")
    panel.get_by_label("Author's note").fill("Slow and foggy.")
    panel.get_by_label("Messages after the note").fill("2")
    panel.get_by_label("Name").fill("Better facts")
    panel.get_by_label("Name").press("Enter")
    expect(page.page.locator("h1")).to_have_text("Better facts")
    story = page.story("Better facts")
    assert story["memory"] == "The ferry is out."
    assert story["note"] == {"text": "Slow and foggy.", "depth": 2}


def test_text_that_is_typed_before_the_panel_is_painted_stays(page: Desk) -> None:
    page.begin("Facts")
    typed = page.button("Story", page.page.get_by_role("navigation", name="Panels")).evaluate(
        """async (button) => {
          button.click();
          const found = () => document.querySelector("[aria-label=Memory]");
          while (!found()) await Promise.resolve();
          const field = found();
          field.value = "The ferry is out.";
          field.dispatchEvent(new Event("input", { bubbles: true }));
          for (let frame = 0; frame < 3; frame++) {
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
          }
          return field.value;
        }"""
    )
    assert typed == "The ferry is out."


def test_settings_go_with_the_next_answer_and_back_to_the_servers(page: Desk) -> None:
    page.begin("Settings")
    panel = page.panel("Sampling")
    panel.get_by_role("spinbutton", name="temperature").fill("0.3")
    panel.get_by_role("spinbutton", name="temperature").press("Tab")
    panel.get_by_role("textbox", name="Banned phrases").fill("a very particular phrase")
    page.button("Ban", panel).click()
    with page.page.expect_request(re.compile("/answer$")) as asked:
        page.say("Hello!")
    body = asked.value.post_data_json
    assert body is not None
    assert body["sampling"] == {"temperature": 0.3} and body["max_tokens"] == 8
    assert body["bans"] == ["a very particular phrase"]
    page.button("Allow a very particular phrase", panel).click()
    page.button("Back to the server's", panel).click()
    expect(panel.get_by_role("spinbutton", name="temperature")).to_have_value("0.8")


def test_a_preset_sets_its_settings(page: Desk) -> None:
    presets = page.server.get("/api/desk")["presets"]
    name, settings = next((name, settings) for name, settings in presets.items() if settings)
    panel = page.panel("Sampling")
    panel.get_by_label("Preset").select_option(name)
    kept = page.page.evaluate("JSON.parse(localStorage.getItem('franken-gguf sampling'))")
    assert kept == settings


def test_a_server_with_a_key_asks_for_it_once(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, "--api-key", "open sesame") as server, desk(browser, server) as page:
        dialog = page.page.get_by_role("dialog", name="The server's key")
        dialog.get_by_label("Key").fill("wrong")
        page.button("Enter", dialog).click()
        expect(dialog).to_contain_text("That is not this server's key.")
        dialog.get_by_label("Key").fill("open sesame")
        page.button("Enter", dialog).click()
        expect(page.page.locator(".welcome")).to_be_visible()
        page.page.reload()
        expect(page.page.locator(".welcome")).to_be_visible()
        expect(page.button("Blind")).to_have_count(0)  # there is one model
        page.complaints.clear()  # Chromium logs each answer 401 as an error
