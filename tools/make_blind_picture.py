"""Draw docs/page-blind.webp: two quants answer one turn, unnamed, after `make demo`.

    pip install playwright pillow
    python tools/make_blind_picture.py

Needs Chromium. Serves two quants of demo/storytellers from a data folder of its own.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from make_page_picture import MODEL, QUESTION, ROOT, begin, browser, served
from PIL import Image
from playwright.sync_api import Page

PICTURE = ROOT / "docs/page-blind.webp"
SECOND = ROOT / "demo/storytellers-Q8_0.gguf"


def main() -> None:
    """Ask one question and take the picture of both answers."""
    options = ("--compare-with", str(SECOND), "--seed", "7")
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), MODEL, *options) as url,
        browser() as page,
    ):
        page.goto(url)
        ask_both(page)
        Image.open(io.BytesIO(page.screenshot())).save(PICTURE, quality=85, method=6)
    print(PICTURE)


def ask_both(page: Page) -> None:
    """The example's story, with a turn that both models answer."""
    page.get_by_role("navigation", name="Panels").get_by_role("button", name="Blind").click()
    page.get_by_label("Two models answer each turn").check()
    page.get_by_role("button", name="Close Blind").click()
    begin(page)
    page.get_by_role("button", name="Close Library").click()
    page.get_by_role("textbox", name="say or do").fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="A is better").wait_for(timeout=120_000)
    page.mouse.move(0, page.viewport_size["height"] if page.viewport_size else 0)
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
