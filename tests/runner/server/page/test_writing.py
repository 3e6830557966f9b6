"""Writing a story on the page: each action is done by hand, and the server's file agrees."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from support.cards import V1
from support.desk import Desk


def test_a_story_is_begun_written_and_found_in_the_list(page: Desk) -> None:
    page.button("New story…").first.click()
    page.page.get_by_label("Name", exact=True).fill("The lighthouse")
    page.button("Begin").click()
    expect(page.page.get_by_role("heading", name="The lighthouse")).to_be_visible()
    page.say("Who keeps the lamp?")
    question, answer = page.lines("The lighthouse")
    assert page.texts() == [question, answer] and question == "Who keeps the lamp?" and answer
    page.open()
    page.page.locator("#stories").get_by_role("button", name="The lighthouse").first.click()
    expect(page.message(-1)).to_contain_text(answer)


def test_thoughts_are_folded_away_and_open_on_a_click(page: Desk) -> None:
    page.begin("Thoughts")
    page.say("<think>\nThe moon rises.\n</think>\n\nGood night.")
    folded, message = page.message(0).locator("details"), page.message(0)
    expect(message.locator(".text")).to_have_text("Good night.")
    expect(folded.locator("summary")).to_have_text("Thoughts, 3 words")
    expect(folded.locator("p")).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("p")).to_have_text("The moon rises.")


def test_words_appear_while_they_are_written_and_stop_ends_the_answer(page: Desk) -> None:
    page.page.evaluate("localStorage.setItem('franken-gguf maxTokens', '0')")
    page.page.reload()
    page.begin("Stopped")
    page.page.get_by_role("textbox", name="say or do").fill("Count from one to a thousand.")
    page.page.keyboard.press("Enter")
    expect(page.page.locator("article.live .text")).not_to_be_empty()
    page.page.keyboard.press("Escape")
    page.answered()
    expect(page.page.locator(".figures")).to_contain_text("· stopped")
    assert page.lines("Stopped")[1] == page.message(-1).locator(".text").inner_text() != ""


def test_again_writes_a_swipe_and_the_arrows_turn_between_them(page: Desk) -> None:
    page.begin("Swipes")
    page.say("Hello!")
    first = page.lines("Swipes")[1]
    page.page.evaluate("localStorage.setItem('franken-gguf sampling', '{\"temperature\": 3}')")
    page.page.reload()
    page.button("Again").click()
    page.answered()
    expect(page.message(-1)).to_contain_text("2/2")
    message = page.story("Swipes")["messages"][1]
    assert message["swipes"][0] == first and message["swipe"] == 1
    page.button("Previous swipe").click()
    expect(page.message(-1)).to_contain_text("1/2")
    assert page.lines("Swipes")[1] == first
    page.page.get_by_role("heading", name="Swipes").click()
    page.page.keyboard.press("Alt+ArrowRight")
    expect(page.message(-1)).to_contain_text("2/2")
    page.button("Write another swipe").click()
    page.answered()
    assert len(page.story("Swipes")["messages"][1]["swipes"]) == 3


def test_continue_writes_on_where_the_answer_ends(page: Desk) -> None:
    page.begin("On", ("user", "Tell me a tale."), ("assistant", "Once upon a"))
    page.button("Continue").click()
    page.answered()
    text = page.lines("On")[1]
    assert text.startswith("Once upon a ") and page.texts()[1] == text


def test_a_question_without_an_answer_gets_one(page: Desk) -> None:
    page.begin("Unanswered", ("user", "Say hello."))
    page.button("Answer").click()
    page.answered()
    assert len(page.lines("Unanswered")) == 2


def test_any_message_is_edited_in_its_place(page: Desk) -> None:
    page.begin("Edited", ("user", "Hello"), ("assistant", "Good day."), ("user", "And now?"))
    page.button("Edit", page.message(1)).click()
    field = page.page.get_by_role("textbox", name="Edit")
    field.fill("Good night.")
    field.press("Control+Enter")
    expect(page.message(1).locator(".text")).to_have_text("Good night.")
    assert page.lines("Edited") == ["Hello", "Good night.", "And now?"]


def test_an_edited_question_is_answered_again_and_what_followed_goes(page: Desk) -> None:
    page.begin("Asked again", ("user", "Hello"), ("assistant", "Good day."))
    page.button("Edit", page.message(0)).click()
    page.page.get_by_role("textbox", name="Edit").fill("Goodbye")
    page.button("Keep and answer again").click()
    page.answered()
    question, answer = page.lines("Asked again")
    assert question == "Goodbye" and answer != "Good day."


def test_an_edited_answer_is_continued(page: Desk) -> None:
    page.begin("Turned", ("user", "Hello"), ("assistant", "Good day."))
    page.button("Edit", page.message(1)).click()
    page.page.get_by_role("textbox", name="Edit").fill("The fog came")
    page.button("Keep and continue").click()
    expect(page.message(1)).to_contain_text("The fog came ")
    page.answered()
    message = page.story("Turned")["messages"][1]
    assert message["text"].startswith("The fog came ") and len(message["swipes"]) == 1


def test_a_message_is_deleted_only_when_confirmed_alone_or_with_all_after_it(page: Desk) -> None:
    page.begin("Cut", ("user", "one"), ("assistant", "two"), ("user", "three"))
    page.button("Delete…", page.message(1)).click()
    page.button("Keep", page.message(1)).click()
    assert page.lines("Cut") == ["one", "two", "three"]
    page.button("Delete…", page.message(0)).click()
    page.button("Delete this", page.message(0)).click()
    expect(page.page.get_by_role("article")).to_have_count(2)
    page.button("Delete…", page.message(0)).click()
    page.button("and all after it", page.message(0)).click()
    expect(page.page.get_by_role("article")).to_have_count(0)
    assert page.lines("Cut") == []


def test_a_message_can_be_added_without_an_answer(page: Desk) -> None:
    page.begin("Added")
    page.page.get_by_role("textbox", name="say or do").fill("I wait.")
    page.button("Add").click()
    expect(page.message(-1)).to_contain_text("I wait.")
    assert page.lines("Added") == ["I wait."]


def test_a_story_is_deleted_only_when_confirmed(page: Desk) -> None:
    page.begin("Doomed")
    stories = page.page.locator("#stories")
    page.button("Delete Doomed…", stories).click()
    page.button("Delete", stories).click()
    expect(page.page.get_by_text("“Doomed” is deleted.")).to_be_visible()
    assert "Doomed" not in [one["name"] for one in page.server.get("/api/stories")["stories"]]


def test_text_of_a_story_is_never_markup(page: Desk) -> None:
    text = '<img src=x onerror="document.title=1"> **&amp;** <script>document.title=2</script>'
    page.begin("A & <b>", ("user", text))
    assert page.texts() == [text]
    assert page.page.locator("main img, main script, h1 b").count() == 0


def test_a_story_changed_elsewhere_is_not_overwritten(page: Desk) -> None:
    page.begin("Shared", ("user", "Hello"))
    page.button("Edit", page.message(0)).click()
    page.server.request("PATCH", "/api/stories/Shared/messages/0", {"text": "Changed elsewhere"})
    page.page.get_by_role("textbox", name="Edit").fill("Changed here")
    page.button("Keep").click()
    expect(page.page.get_by_role("alert")).to_contain_text("changed")
    assert page.lines("Shared") == ["Changed elsewhere"]
    page.complaints.clear()  # Chromium logs the answer 409 as an error


def test_the_next_character_speaks_or_the_one_that_is_chosen(page: Desk) -> None:
    cards = []
    for name in ("Ada", "Ben", "Cid"):
        card = json.dumps({**dict.fromkeys(V1, ""), "name": name}).encode()
        cards.append(page.server.request("POST", f"/api/cards?file={name}.json", card)[1]["id"])
    page.server.post("/api/stories", name="Three of them", cards=cards)
    page.open("Three of them")
    page.say("Hello!")
    page.button("Next: Ben").click()
    expect(page.page.get_by_role("article")).to_have_count(3)
    page.answered()
    page.page.get_by_label("Who answers").select_option("Ada")
    page.button("Next: Ada").click()
    expect(page.page.get_by_role("article")).to_have_count(4)
    page.answered()
    messages = page.story("Three of them")["messages"]
    told = [one["name"] for one in messages if one["role"] == "assistant"]
    assert told == ["Ada", "Ben", "Ada"]
