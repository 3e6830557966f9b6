"""Every screen of the page at a phone's, a tablet's and a desk's width, in light and in dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from support.desk import Desk, desk
from support.servers import Server

NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, [role=button]")]
  .filter((one) => one.checkVisibility() && !one.getAttribute("aria-label")
    && !one.textContent.trim() && !one.labels?.length).map((one) => one.outerHTML)"""
TOO_WIDE = """() => [...document.querySelectorAll("#page *, dialog *")].filter((one) => {
  const box = one.getBoundingClientRect();
  const hides = (e) => e && (getComputedStyle(e).overflowX !== "visible" || hides(e.parentElement));
  return one.checkVisibility({visibilityProperty: true}) && box.width && !hides(one.parentElement)
    && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => one.outerHTML.slice(0, 120))"""
CONTRAST = """() => {
  const lit = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const color = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => { const c = color(getComputedStyle(e).backgroundColor);
    return c.length < 4 || c[3] > 0 ? c : ground(e.parentElement); };
  return [...document.querySelectorAll("#page *, dialog *")].filter((e) => e.checkVisibility()
    && !e.disabled && !e.closest(":disabled, .inactive")
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).flatMap((e) => {
      const [a, b] = [lit(color(getComputedStyle(e).color)), lit(ground(e))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05) < 4.5 ? [e.outerHTML.slice(0, 120)] : [];
    });
}"""
LONG = '"A word," *she says,* ' + "and-" * 60 + " then she is gone. " * 12


def assert_fits(page: Desk) -> None:
    assert page.page.evaluate(TOO_WIDE) == []
    assert page.page.evaluate(NAMELESS) == []
    assert page.page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_every_screen_fits_is_legible_and_names_its_controls(
    browser: Browser, server: Server, width: int, dark: bool
) -> None:
    with desk(browser, server, width=width, dark=dark, isBlind=True) as page:
        page.begin(f"Width {width} {dark}", ("user", "Hello"), ("assistant", LONG))
        assert_fits(page)
        for view in ("Notebook", "Branches", "Write"):
            page.view(view)
            assert_fits(page)
        for name in ("Story", "Library", "Sampling", "Context", "Blind"):
            panel = page.panel(name)
            expect(panel).to_be_visible()
            assert_fits(page)
            page.button(f"Close {name}").click()
        page.button("Export…").click()
        assert_fits(page)
        page.button("Cancel").click()
        page.view("Read")
        assert_fits(page)
        page.button("Back to writing").click()
        page.button("Again").click()
        page.button("Equal").wait_for()
        assert_fits(page)


def test_the_switch_overrules_the_systems_colors_and_is_remembered(page: Desk) -> None:
    page.page.get_by_role("button", name="Colors: auto").click()
    page.page.get_by_role("button", name="Colors: light").click()
    page.page.reload()
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.page.evaluate(ground) == "rgb(26, 25, 23)"


def test_a_story_can_be_written_with_the_keyboard_alone(page: Desk) -> None:
    page.begin("Keys")
    page.page.keyboard.press("Tab")
    expect(page.page.get_by_role("link", name="Skip to the story")).to_be_focused()
    page.page.keyboard.press("Enter")
    field = page.page.get_by_role("textbox", name="say or do")
    for _ in range(10):
        if field.evaluate("field => field === document.activeElement"):
            break
        page.page.keyboard.press("Tab")
    page.page.keyboard.type("Hello!")
    page.page.keyboard.press("Enter")
    expect(page.message(1)).to_be_visible()
    page.answered()
    assert page.lines("Keys")[0] == "Hello!"


def test_a_screen_reader_hears_each_sentence_once_when_it_is_complete(page: Desk) -> None:
    found = page.page.evaluate(
        """async () => (await import("/page/modules/spoken.js")).sentences(
             'The lamp went out. "Who is there?" she asked… Nobody ans')"""
    )
    assert found == ["The lamp went out.", '"Who is there?"', "she asked…"]
    expect(page.page.locator("[aria-live]")).to_have_count(0)
    page.begin("Heard")
    expect(page.page.locator("[role=log][aria-live=polite]")).to_have_count(1)
