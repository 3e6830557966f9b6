"""Blind comparison on the page: two answers, a choice by hand, and what the choices say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from support.desk import Desk, desk
from support.servers import Server


def ask(page: Desk, text: str = "Who are you?") -> Locator:
    """Send a message, and wait for both answers."""
    page.page.get_by_role("textbox", name="say or do").fill(text)
    page.button("Send").click()
    found = page.page.get_by_role("region", name="Two answers: which is better?")
    expect(found.get_by_role("article")).to_have_count(2)
    return found


def answers(found: Locator) -> list[str]:
    return found.locator(".text").all_inner_texts()


def votes(page: Desk) -> list[dict[str, Any]]:
    path = page.server.folder / "data/franken-gguf/votes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def blind(browser: Browser, server: Server) -> Any:
    with desk(browser, server, isBlind=True, goal=1000) as found:
        yield found


def test_a_turn_is_answered_twice_and_the_chosen_answer_goes_on(blind: Desk) -> None:
    blind.begin("Two")
    found, before = ask(blind), len(votes(blind))
    first, second = answers(found)
    assert first != second and blind.lines("Two") == []
    expect(found).to_be_focused()
    expect(blind.page.get_by_role("textbox", name="say or do")).to_have_count(0)
    blind.button("B is better").click()
    expect(blind.message(-1)).to_contain_text("1/2")
    assert blind.texts() == blind.lines("Two") == ["Who are you?", second]
    assert blind.story("Two")["messages"][1]["swipes"] == [second, first]
    expect(blind.page.get_by_role("textbox", name="say or do")).to_be_focused()
    assert [one["chosen"] for one in votes(blind)[before:]] == [1]
    expect(blind.page.get_by_text(f"{before + 1} of 1000 choices")).to_be_visible()


def test_a_choice_is_made_with_the_keyboard_alone(blind: Desk) -> None:
    blind.begin("By key")
    first, _ = answers(ask(blind))
    blind.page.keyboard.press("Alt+ArrowLeft")
    expect(blind.message(-1)).to_contain_text("1/2")
    assert blind.lines("By key")[1] == first
    blind.page.keyboard.type("And then?")
    blind.page.keyboard.press("Enter")
    found = blind.page.get_by_role("region", name="Two answers: which is better?")
    expect(found).to_be_focused()
    blind.page.keyboard.press("Tab")
    expect(blind.button("A is better")).to_be_focused()
    blind.page.keyboard.press("Tab")
    expect(blind.button("Equal")).to_be_focused()
    blind.page.keyboard.press("Enter")
    expect(blind.page.get_by_role("article")).to_have_count(4)


def test_both_answers_can_be_discarded_and_the_question_comes_back(blind: Desk) -> None:
    blind.begin("Discarded")
    before = len(votes(blind))
    ask(blind, "A question.")
    blind.button("Discard both").click()
    expect(blind.page.get_by_role("textbox", name="say or do")).to_have_value("A question.")
    assert blind.lines("Discarded") == [] and len(votes(blind)) == before


def test_the_choice_can_be_made_after_the_page_was_loaded_again(blind: Desk) -> None:
    blind.begin("Later")
    both = answers(ask(blind))
    blind.page.reload()
    found = blind.page.get_by_role("region", name="Two answers: which is better?")
    expect(found.get_by_role("article")).to_have_count(2)
    assert answers(found) == both
    expect(blind.message(0)).to_contain_text("Who are you?")
    blind.button("A is better").click()
    expect(blind.message(-1)).to_contain_text("1/2")


def test_again_and_continue_are_answered_twice_too(blind: Desk) -> None:
    blind.begin("More", ("user", "Who are you?"), ("assistant", "I am"))
    found = blind.page.get_by_role("region", name="Two answers: which is better?")
    blind.button("Continue").click()
    expect(found.get_by_role("article")).to_have_count(2)
    both = answers(found)
    assert all(text.startswith("I am ") for text in both)
    blind.button("A is better").click()
    expect(blind.message(1)).to_contain_text("1/2")
    blind.button("Again").click()
    expect(found.get_by_role("article")).to_have_count(2)
    blind.button("B is better").click()
    expect(blind.message(1)).to_contain_text("3/4")


def test_stopping_gives_the_question_back(blind: Desk) -> None:
    blind.page.evaluate("localStorage.setItem('franken-gguf maxTokens', '0')")
    blind.page.reload()
    blind.begin("Halted")
    field = blind.page.get_by_role("textbox", name="say or do")
    field.fill("Count to a thousand.")
    blind.button("Send").click()
    expect(blind.page.get_by_text("Two models are writing.")).to_be_visible()
    blind.page.keyboard.press("Escape")
    blind.answered()
    expect(field).to_have_value("Count to a thousand.")
    assert blind.lines("Halted") == []


def test_the_result_comes_after_the_number_of_choices_that_was_set(
    browser: Browser, server: Server
) -> None:
    made = server.get("/api/preference")["choices"]
    with desk(browser, server, isBlind=True, goal=made + 2) as page:
        page.begin("Result")
        panel = page.page.get_by_role("complementary", name="Blind")
        for _ in range(2):
            expect(panel).to_have_count(0)
            ask(page)
            page.button("A is better").click()
        result = panel.get_by_role("region", name="The result")
        expect(result).to_contain_text("SmolLM2-other")
        expect(result).to_contain_text("95 % interval")
        expect(result).to_contain_text(re.compile("chance", re.IGNORECASE))
        expect(result).not_to_contain_text("You looked early")
        found = page.server.get("/api/preference")
        for one in found["models"]:
            expect(result).to_contain_text(one["name"])


def test_it_is_turned_on_and_off_in_its_panel_and_can_be_looked_at_early(page: Desk) -> None:
    page.begin("Switch")
    panel = page.panel("Blind")
    panel.get_by_label("Two models answer each turn").check()
    ask(page)
    page.button("Equal").click()
    page.button("Look early", panel).click()
    expect(panel).to_contain_text("You looked early")
    panel.get_by_label("Two models answer each turn").uncheck()
    page.say("And now?")
    assert len(page.lines("Switch")) == 4
