"""Draw docs/page.webp: one evening on the page, with a real model, after `make demo`.

    pip install playwright pillow
    python tools/make_page_picture.py

Needs Chromium. Serves demo/storytellers-Q4_K_M.gguf from a data folder of its own.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/page.webp"
STORIES = ROOT / "examples/story"
MODEL = ROOT / "demo/storytellers-Q4_K_M.gguf"
OPTIONS = ("--experts", "--expert-names", str(ROOT / "examples/storytellers.yml"), "--seed", "5")
QUESTION = '"Who keeps the light when the fog comes in?" *I ask, and hang up my coat.*'
WIDTH, HEIGHT = 1280, 800


def main() -> None:
    """Tell a story on the page and take its picture."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), MODEL, *OPTIONS) as url,
        browser() as page,
    ):
        page.goto(url)
        tell(page)
        Image.open(io.BytesIO(page.screenshot())).save(PICTURE, quality=85, method=6)
    print(PICTURE)


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a light Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--font-render-hinting=none"]
        )
        yield started.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB"
        )
        started.close()


def tell(page: Page) -> None:
    """The story with one answer, its words by expert."""
    begin(page)
    page.get_by_role("textbox", name="say or do").fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Words").click(timeout=120_000)
    page.get_by_role("navigation", name="Panels").get_by_role("button", name="Context").click()
    page.locator(".words [role=button]").nth(4).click()
    page.locator(".parts").first.wait_for()
    notices = page.locator(".notices button")
    while notices.count():
        notices.first.click()
    page.mouse.move(0, HEIGHT)
    page.wait_for_timeout(500)


def begin(page: Page) -> None:
    """A story with the example's card and lorebook."""
    page.get_by_role("button", name="Library").click()
    files = page.locator("aside input[type=file]")
    for name, heading in (("mara.png", "Mara Quill"), ("skerry-rock.json", "Skerry Rock")):
        files.set_input_files(STORIES / name)
        page.locator("aside").get_by_text(heading).first.wait_for()
    page.get_by_role("button", name="New story…").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Skerry Rock")
    dialog.get_by_label("You are").fill("Tom")
    dialog.get_by_label("Mara Quill").check()
    dialog.get_by_label("Skerry Rock").check()
    dialog.get_by_role("button", name="Begin").click()
    dialog.wait_for(state="detached")


@contextmanager
def served(folder: Path, model: Path, *options: str) -> Iterator[str]:
    """The address of a server of a model; it is ended afterwards."""
    command = [sys.executable, "-m", "franken_gguf.runner", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, "-c", "2048", "-n", "60", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
    )
    try:
        for line in process.stderr or ():
            if found := re.search(r"listening at (\S+);", line):
                yield found[1]
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
