"""Lorebooks of both forms, and what of them a moment of the story calls for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.story.active_lore import Lore, Moment
from franken_gguf.runner.story.card import card_in
from franken_gguf.runner.story.lore_keys import Key, KeyIndex
from franken_gguf.runner.story.lorebook import ALWAYS, Condition, Entry, Lorebook, read_lorebook
from support.cards import V2
from support.lorebooks import IN_A_CARD, WORLD_INFO, active, book, called, reasons

SOON = 1e12  # a deadline of no concern


def test_sillytaverns_world_info_and_a_cards_book_are_one(tmp_path: Path) -> None:
    path = tmp_path / "world.json"

    def written(found: object) -> Lorebook:
        path.write_text(json.dumps(found))
        return read_lorebook(path)

    def key(text: str) -> Key:
        return Key(text, has_case=True, is_word=False)

    read = written(WORLD_INFO)
    (entry,) = read.entries
    assert entry == Entry(
        entry.uid,
        "Lamp",
        "It burns.",
        (key("lamp"), key("/wicks?/i")),
        (Condition("all", (key("oil"), key("fire"))),),
        position="depth",
        depth=3,
        order=7,
        rank=7,
        scan_depth=5,
        probability=60,
        sticky=3,
        cooldown=2,
        can_match_others=False,
        can_be_matched_by_others=False,
        only_by_others=True,
    )
    assert written(IN_A_CARD) == read
    assert written({"spec": "lorebook_v3", "data": IN_A_CARD}) == read
    assert written({**V2, "data": {**V2["data"], "character_book": IN_A_CARD}}) == read


def test_a_cards_own_book_says_how_far_it_looks_and_how_much_it_may_take() -> None:
    own = card_in(json.dumps(V2).encode()).book
    assert own is not None
    assert (own.name, own.budget, own.entries[0].scan_depth) == ("Skerry Rock", 200, 3)


@pytest.mark.parametrize(
    ("settings", "text", "is_found"),
    [
        ({}, "the Lamp!", True),
        ({}, "lamps", False),
        ({}, "clamp", False),
        ({"match_whole_words": False}, "Clamps", True),
        ({"case_sensitive": True}, "Lamp", False),
        ({"case_sensitive": True}, "a lamp", True),
        ({"keys": ["oil lamp"]}, "an Oil Lamps", True),
        ({"keys": ["oil lamp"]}, "oil and lamp", False),
        ({"keys": ["é"]}, "thé é", True),
        ({"keys": ["é"]}, "thé", False),
        ({"keys": ["東京"]}, "私は東京に行く", True),
        ({"keys": ["STRASSE"]}, "die Straße", True),
        ({"keys": ["a"]}, "b a", True),
        ({"keys": [" lamp , ", ""]}, "lamp , x", True),
        ({"keys": "door, lamp"}, "the lamp", True),
        ({"keys": ["/l[aeu]mp/"]}, "a lump", True),
        ({"keys": ["/l[aeu]mp/"]}, "a LUMP", False),
        ({"keys": ["/l[aeu]mp/i"]}, "a LUMP", True),
        ({"keys": ["/^lamp$/m"]}, "a\nlamp\nb", True),
        ({"keys": ["l.mp"]}, "lamp", False),
        ({"keys": ["l.mp"], "use_regex": True}, "LAMP", True),
        ({"keys": ["(", "lamp"], "use_regex": True}, "lamp", True),
        ({"keys": ["/(/"]}, "(", False),
        ({"enabled": False}, "lamp", False),
        ({"content": " "}, "lamp", False),
        ({"keys": []}, "lamp", False),
    ],
)
def test_keys_are_found_as_they_are_meant(
    settings: dict[str, Any], text: str, is_found: bool
) -> None:
    assert bool(called(book({"keys": ["lamp"], **settings}), text)) is is_found


@given(
    st.lists(st.text(st.sampled_from("abAB é_1"), min_size=1, max_size=9), max_size=12),
    st.text(st.sampled_from("abAB é_1."), max_size=60),
    st.booleans(),
    st.booleans(),
)
def test_the_index_finds_what_looking_at_every_key_finds(
    phrases: list[str], text: str, has_case: bool, is_word: bool
) -> None:
    keys = [Key(phrase, has_case=has_case, is_word=is_word) for phrase in phrases]
    found = KeyIndex(keys).found(text, SOON)
    assert found == {n for n, key in enumerate(keys) if key.is_in(text, text.casefold())}


@pytest.mark.parametrize(
    ("logic", "texts"),
    [(0, ["oil", "both"]), (1, ["none", "oil"]), (2, ["none"]), (3, ["both"])],
)
def test_secondary_keys_are_asked_for_by_four_logics(logic: int, texts: list[str]) -> None:
    entry = {
        "keys": ["lamp"],
        "secondary_keys": ["oil", "fire"],
        "selective": True,
        "extensions": {"selectiveLogic": logic},
    }
    said = {"none": "lamp", "oil": "lamp, oil", "both": "lamp, oil, fire"}
    assert [name for name, text in said.items() if active(book(entry), text)] == sorted(
        texts, key=list(said).index
    )
    assert active(book(entry | {"selective": False}), "lamp, oil") == ["e0"]


def test_only_the_latest_messages_are_looked_at() -> None:
    two = book({"keys": ["lamp"]})
    assert active(two, "lamp", "b") == ["e0"]
    assert active(two, "lamp", "b", "c") == []
    assert active(book({"keys": ["lamp"]}, scan_depth=3), "lamp", "b", "c") == ["e0"]
    assert active(book({"keys": ["lamp"]}, scan_depth=0), "lamp") == []
    deep = book({"keys": ["lamp"], "extensions": {"scan_depth": 4}})
    assert active(deep, "lamp", "b", "c", "d") == ["e0"]
    assert reasons(two, "lamp", "b") == ["'lamp' 2 messages back"]
    assert reasons(two, "b", "the lamp") == ["'lamp' in the last message"]


def test_lore_stands_by_its_order_and_constant_lore_always() -> None:
    three = book(
        {"keys": ["a"], "insertion_order": 3},
        {"keys": ["b"], "insertion_order": 1},
        {"constant": True, "insertion_order": 2},
    )
    assert active(three, "a b") == ["e1", "e2", "e0"]
    assert active(three, "") == ["e2"]
    assert reasons(three) == ["always"]


def test_entries_call_for_others_unless_one_of_them_forbids_it() -> None:
    chain: list[dict[str, Any]] = [
        {"keys": ["cow"], "content": "Friends with Rufus."},
        {"keys": ["rufus"], "content": "A dog of Ann's."},
        {"keys": ["ann"], "content": "A child."},
    ]
    assert active(book(*chain), "the cow") == ["e0", "e1", "e2"]
    assert reasons(book(*chain), "the cow")[1:] == ["'rufus' in 'e0'", "'ann' in 'e1'"]
    assert active(book(*chain, recursive_scanning=False), "the cow") == ["e0"]
    stop, deaf = {"prevent_recursion": True}, {"exclude_recursion": True}
    assert active(book(chain[0] | {"extensions": stop}, *chain[1:]), "cow") == ["e0"]
    assert active(book(chain[0], chain[1] | {"extensions": deaf}), "cow") == ["e0"]
    late = chain[2] | {"extensions": {"delay_until_recursion": True}}
    assert active(book(*chain[:2], late), "cow ann") == ["e0", "e1", "e2"]
    round_ = book({"keys": ["a"], "content": "b"}, {"keys": ["b"], "content": "a"})
    assert active(round_, "a") == ["e0", "e1"]


def test_recursion_ends_after_ten_steps() -> None:
    chain = book(*({"keys": [f"k{n}"], "content": f"k{n + 1}"} for n in range(50)))
    assert active(chain, "k0") == [f"e{n}" for n in range(11)]


def test_a_budget_keeps_what_ranks_highest() -> None:
    entries: list[dict[str, Any]] = [
        {"keys": ["a"], "content": "12345", "insertion_order": 1},
        {"keys": ["a"], "content": "12345", "insertion_order": 2, "name": "second"},
        {"constant": True, "content": "123456", "insertion_order": 0},
    ]
    assert active(book(*entries), "a", budget=11) == ["e2", "second"]
    assert active(book(*entries, token_budget=11), "a") == ["e2", "second"]
    assert reasons(book(*entries), "a", budget=11)[1] == (
        "'a' in the last message: no room in the token budget"
    )
    entries[0]["priority"] = 9
    assert active(book(*entries), "a", budget=11) == ["e2", "e0"]


def test_sticky_cooldown_and_delay_run_as_sillytaverns_documentation_draws_them() -> None:
    entry = {"keys": ["lamp"], "extensions": {"sticky": 3, "cooldown": 2, "delay": 2}}
    lore = Lore([book(entry)])
    started: dict[str, int] = {}
    story = []
    for count in range(1, 9):
        texts = ["lamp"] * count if count not in (4, 5) else [""] * count
        (one,) = lore.matches(Moment(texts, started=dict(started)))
        story.append(one.reason)
        if one.starts:
            started[one.entry.uid] = count
    key = "'lamp' in the last message"
    assert story == [
        f"{key}: starts after 2 messages",
        key,
        "sticky, 3 more messages",
        "sticky, 2 more messages",
        "sticky, 1 more message",
        f"{key}: cooling down, 2 more messages",
        f"{key}: cooling down, 1 more message",
        key,
    ]


def test_of_a_group_one_comes_by_its_weight_or_its_order() -> None:
    def member(weight: int, **more: Any) -> dict[str, Any]:
        extensions = {"group": "g, h", "group_weight": weight, **more}
        return {"keys": ["a"], "content": str(weight), "extensions": extensions}

    two = book(member(100), member(300), {"keys": ["a"]})
    first = 0
    for n in range(400):
        names = active(two, "a", salt=str(n))
        assert names in (["e0", "e2"], ["e1", "e2"])
        first += names[0] == "e0"
    assert 60 < first < 140  # a quarter of 400, give or take five deviations
    assert active(book(member(1, group_override=True), member(1000)), "a") == ["e0"]
    (lost,) = [one for one in called(two, "a") if not one.is_active]
    assert lost.reason in (
        "'a' in the last message: 'e0' was chosen from group 'g'",
        "'a' in the last message: 'e1' was chosen from group 'g'",
    )
    never = member(1000, probability=0)
    assert active(book(never, member(1)), "a") == ["e1"]


def test_dice_are_the_same_for_the_same_moment() -> None:
    half = book({"keys": ["a"], "extensions": {"probability": 50, "useProbability": True}})
    seen = [bool(active(half, "a", salt=str(n))) for n in range(60)]
    assert 10 < sum(seen) < 50
    assert seen == [bool(active(half, "a", salt=str(n))) for n in range(60)]
    never = book({"keys": ["a"], "extensions": {"probability": 0, "useProbability": False}})
    assert active(never, "a") == ["e0"]


@pytest.mark.parametrize(
    ("content", "moment", "is_active"),
    [
        ("@@activate_only_after 2\nx", {"answers": 1}, False),
        ("@@activate_only_after 2\nx", {"answers": 2}, True),
        ("@@activate_only_every 3\nx", {"answers": 4}, False),
        ("@@activate_only_every 3\nx", {"answers": 6}, True),
        ("@@is_greeting 1\nx", {"greeting": 0}, False),
        ("@@is_greeting 1\nx", {"greeting": 1}, True),
        ("@@additional_keys oil,fire\nx", {}, False),
        ("@@additional_keys oil,lamp\nx", {}, True),
        ("@@exclude_keys lamp\nx", {}, False),
        ("@@exclude_keys oil\nx", {}, True),
        ("@@dont_activate\nx", {}, False),
        ("@@dont_activate\n@@activate\nx", {}, True),
        ("@@scan_depth 0\nx", {}, False),
        ("@@unheard_of 4\n@@@dont_activate\nx", {}, False),
        ("@@scan_depth 2\n@@@dont_activate\nx", {}, True),
        ("@@activate_only_after many\nx", {}, True),
    ],
)
def test_decorators_of_v3_are_followed_and_leave_the_content(
    content: str, moment: dict[str, Any], is_active: bool
) -> None:
    found = called(book({"keys": ["lamp"], "content": content}), "lamp", **moment)
    assert [one.text for one in found if one.is_active] == ["x"] * is_active


def test_decorators_place_an_entry_and_keep_it() -> None:
    (one, two, three) = book(
        {"content": "@@depth 0\n@@keep_activate_after_match\n\nx"},
        {"content": "@@position before_desc\n@@dont_activate_after_match\ny"},
        {"content": "@@nothing"},
        {"content": "z", "position": "before_char"},
    ).entries
    assert (one.position, one.depth, one.sticky, one.content) == ("depth", 0, ALWAYS, "x")
    assert (two.position, two.cooldown, two.content) == ("before", ALWAYS, "y")
    assert three.position == "before"


def test_entries_that_are_not_supported_are_reported() -> None:
    read = book(
        {"keys": ["a"], "extensions": {"vectorized": True}},
        {"keys": ["b"], "extensions": {"position": 7}, "insertion_order": "many"},
    )
    assert read.remarks == (
        "1 of 2 entries can match by similarity in SillyTavern; here only by their keys",
        "1 of 2 entries have a position that is not supported; they go after the card",
        "ignored, of the wrong type: entries[1].insertionorder",
    )
