"""The page in a real browser: Chromium without a window, driven by Playwright, nothing mocked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from support.browser import NAMES
from support.servers import Server

PATIENCE = 30_000
GREEDY = {"temperature": 0}
expect.set_options(timeout=PATIENCE)  # a busy machine is no failure


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        # The tests may run as root, where Chromium's own sandbox refuses to work.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Desk:
    """A page at work, and all that it complained of."""

    page: Page
    server: Server
    complaints: list[str] = field(default_factory=list)

    def open(self, story: str = "", view: str = "") -> None:
        """Show a story, or the desk without one."""
        path = "#/" + quote(story, safe="") + (view and f"/{view}")
        self.page.goto(f"http://127.0.0.1:{self.server.port}/{path}")
        if story:
            expect(self.page.locator("h1")).to_have_text(story)
        expect(
            self.page.locator("main .page, main .welcome, main .sheet, dialog").first
        ).to_be_visible()

    def begin(self, name: str, *told: tuple[str, str]) -> None:
        """Open a new story of these roles and texts."""
        story = self.server.post("/api/stories", name=name)
        for role, text in told:
            self.server.post(f"/api/stories/{quote(story['name'])}/messages", role=role, text=text)
        self.open(story["name"])

    def button(self, name: str, within: Locator | None = None) -> Locator:
        """The button of this name."""
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def panel(self, name: str) -> Locator:
        """The side panel of this name, opened."""
        self.button(name, self.page.get_by_role("navigation", name="Panels")).click()
        return self.page.get_by_role("complementary", name=name)

    def view(self, name: str) -> None:
        """Turn to the view of this name."""
        self.button(name, self.page.get_by_role("navigation", name="Views")).click()

    def say(self, text: str) -> None:
        """Write a message and wait for its answer."""
        self.page.get_by_role("textbox", name="say or do").fill(text)
        self.button("Send").click()
        self.answered()

    def answered(self) -> None:
        """Wait until the running answer is done."""
        expect(self.button("Stop")).to_have_count(0, timeout=PATIENCE)

    def message(self, number: int) -> Locator:
        """Message `number`, from 0; -1 is the last."""
        messages = self.page.get_by_role("article")
        return messages.last if number < 0 else messages.nth(number)

    def texts(self) -> list[str]:
        """All messages' texts on the page."""
        return self.page.locator("article .text").all_inner_texts()

    def story(self, name: str) -> dict[str, Any]:
        """The story as the server has it."""
        found: dict[str, Any] = self.server.get(f"/api/stories/{quote(name)}")
        return found

    def lines(self, name: str) -> list[str]:
        """All messages' texts as the server has them."""
        return [message["text"] for message in self.story(name)["messages"]]


@contextmanager
def desk(
    browser: Browser,
    server: Server,
    *,
    width: int = 1400,
    dark: bool = False,
    tokens: int = 8,
    **remembered: Any,
) -> Iterator[Desk]:
    """The page on a screen of this width; an error in its console or of its policy fails the test.

    Answers are greedy and of at most `tokens` tokens, unless the browser remembers otherwise.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        has_touch=width < 600,
        locale="en-GB",
    )
    kept = {"sampling": GREEDY, "maxTokens": tokens, **remembered}
    script = "if (!localStorage.length) for (const [name, value] of Object.entries(%s))"
    script += "localStorage.setItem('franken-gguf ' + name, JSON.stringify(value))"
    context.add_init_script(script % json.dumps(kept))
    found = Desk(context.new_page(), server)

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.complaints.append(message.text)

    found.page.on("console", hear)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.set_default_timeout(PATIENCE)
    found.open()
    yield found
    context.close()
    assert found.complaints == []
