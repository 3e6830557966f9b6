"""The report page in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from franken_gguf.runner.compare.report.page import page
from support.browser import Browser, chromium
from support.comparisons import HOSTILE, drawn

LADDER = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
LONG = "W" * 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(params=["", HOSTILE, LONG], ids=["plain", "hostile", "long"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(page(drawn(5, LADDER, request.param)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [360, 900, 1280])
def test_a_page_fits_its_screen_and_is_silent(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.said("Log.entryAdded", "Runtime.consoleAPICalled") == []
    assert browser.said("Runtime.exceptionThrown", "Page.javascriptDialogOpening") == []
    asked = browser.said("Network.requestWillBeSent")
    assert [one["request"]["url"] for one in asked] == [report.as_uri()]
    assert browser.value("document.scripts.length + document.images.length") == 0
    assert browser.value("document.querySelectorAll('h1, h2').length") == 9


@pytest.mark.parametrize("width", [360, 1280])
def test_no_word_of_a_plot_lies_outside_it(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    outside = browser.value(
        "[...document.querySelectorAll('svg[role=img] text')].filter(text => {"
        " const box = text.getBoundingClientRect();"
        " return box.left < 0 || box.right > innerWidth; }).map(text => text.textContent)"
    )
    assert outside == []


def test_a_page_follows_dark_mode(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(drawn(5)), encoding="utf-8")
    seen = []
    for dark in (False, True):
        browser.open(path, width=360, dark=dark)
        seen += [
            browser.value(f"getComputedStyle(document.body).{name}")
            for name in ("backgroundColor", "color")
        ]
    assert seen == [
        "rgb(250, 249, 246)",
        "rgb(28, 31, 29)",
        "rgb(20, 23, 21)",
        "rgb(230, 231, 226)",
    ]


def test_the_policy_blocks_an_injected_script(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    broken = page(drawn(5)).replace("</main>", "<script>document.title = 'in'</script></main>")
    path.write_text(broken, encoding="utf-8")
    browser.open(path, width=360)
    assert browser.value("document.title") != "in"
    (said,) = browser.said("Log.entryAdded")
    assert "Content Security Policy" in said["entry"]["text"]
