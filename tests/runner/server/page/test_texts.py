"""The modules that only work with text, run in the browser and compared with Python's own."""

from __future__ import annotations

import random
from typing import Any

from franken_gguf.runner.conversation.thoughts import ThoughtSplitter
from franken_gguf.runner.terminal.speech_marks import Mark, MarkedText, merged
from support.desk import Desk

PIECES = (
    '"',
    '"',
    "*",
    "*",
    "**",
    "`",
    "```",
    "“",
    "”",
    "«",
    "»",
    " ",
    " ",
    "\n",
    "a",
    "word",
    "6",
)


def run(page: Desk, module: str, call: str, argument: Any) -> Any:
    """What `call`, JavaScript with the module as m and the argument as a, gives."""
    script = (
        f"async (a) => {{ const m = await import('/page/modules/{module}.js'); return {call} }}"
    )
    return page.page.evaluate(script, argument)


def test_speech_and_actions_are_found_as_at_the_terminal(page: Desk) -> None:
    chance = random.Random(7)
    texts = ["".join(chance.choices(PIECES, k=chance.randint(1, 25))) for _ in range(500)]
    found = run(page, "marked_text", "a.map(m.spans)", texts)
    for text, spans in zip(texts, found, strict=True):
        marked = MarkedText()
        expected = merged([*marked.feed(text), *marked.end()])
        assert [(one["text"], one["isSpeech"], one["isAction"]) for one in spans] == [
            (piece, Mark.SPEECH in mark, Mark.ACTION in mark) for piece, mark in expected
        ], text


def test_thoughts_are_told_from_an_answer_as_at_the_terminal(page: Desk) -> None:
    chance = random.Random(5)
    pieces = ("<think>", "</think>", "a b", " ", "\n", "</th")
    texts = ["".join(chance.choices(pieces, k=chance.randint(0, 6))) for _ in range(300)]
    found = run(page, "thoughts", "a.map(m.split)", texts)
    for text, parts in zip(texts, found, strict=True):
        splitter = ThoughtSplitter()
        (thoughts, answer), (more, rest) = splitter.feed(text), splitter.end()
        assert parts["thoughts"] == thoughts + more, text
        assert parts["answer"] == answer + rest, text


def test_whatever_is_changed_in_the_notebook_is_in_the_messages_afterwards(page: Desk) -> None:
    chance = random.Random(3)
    cases = []
    for _ in range(300):
        texts = ["".join(chance.choices("ab\n", k=chance.randint(0, 6))) for _ in range(4)]
        text = "\n\n".join(texts)
        start, end = sorted(chance.choices(range(len(text) + 1), k=2))
        changed = (
            text[:start] + "".join(chance.choices("ab\n", k=chance.randint(0, 5))) + text[end:]
        )
        cases.append([[{"role": "assistant", "text": one} for one in texts], changed])
    found = run(page, "notebook", "a.map(([told, text]) => m.flowing(m.spread(told, text)))", cases)
    assert found == [changed for _, changed in cases]


def test_a_change_in_one_message_leaves_the_others_and_notes_alone(page: Desk) -> None:
    told = [
        {"role": "user", "text": "one"},
        {"role": "note", "text": "unread"},
        {"role": "assistant", "text": "two"},
    ]
    changed = run(page, "notebook", "m.spread(a, 'one\\n\\ntwo!')", told)
    assert changed == [*told[:2], {"role": "assistant", "text": "two!"}]
