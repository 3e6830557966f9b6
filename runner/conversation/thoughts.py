"""Tells what a model thinks from what it answers: a block of <think> at the start of its text."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"
NO_THOUGHTS = f"{OPEN}\n\n{CLOSE}\n\n"
"""What Qwen3's template writes for an answer that is not to be thought about."""


class ThoughtSplitter:
    """Splits a streamed text; `feed` it each piece, then call `end`.

    Only a text that starts with <think> has thoughts; what follows </think> is the answer. Spaces
    around both are left out.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = self._before_thoughts

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends within the thoughts."""
        return self._state == self._within_thoughts

    def feed(self, piece: str) -> tuple[str, str]:
        """(thoughts, answer) of what is certain now; what may be part of a tag is held back."""
        self._held += piece
        return self._state()

    def end(self) -> tuple[str, str]:
        """(thoughts, answer) of what was held back."""
        held, self._held = self._held, ""
        return (held, "") if self.is_thinking else ("", held)

    def _before_thoughts(self) -> tuple[str, str]:
        start = self._held.lstrip()
        if start != OPEN and OPEN.startswith(start):
            return "", ""
        if not start.startswith(OPEN):
            self._state = self._within_answer
            return self._state()
        self._held = start.removeprefix(OPEN)
        self._state = self._within_thoughts
        return self._state()

    def _within_thoughts(self) -> tuple[str, str]:
        thoughts, tag, self._held = self._held.partition(CLOSE)
        if tag:
            self._state = self._before_answer
            return thoughts, self._state()[1]
        kept = next(n for n in range(len(CLOSE) - 1, -1, -1) if thoughts.endswith(CLOSE[:n]))
        self._held = thoughts[len(thoughts) - kept :]
        return thoughts[: len(thoughts) - kept], ""

    def _before_answer(self) -> tuple[str, str]:
        self._held = self._held.lstrip()
        if self._held:
            self._state = self._within_answer
        return self._within_answer()

    def _within_answer(self) -> tuple[str, str]:
        answer, self._held = self._held, ""
        return "", answer


def thoughts_of(text: str) -> str:
    """The thoughts at the start of `text`; empty if it has none."""
    splitter = ThoughtSplitter()
    return (splitter.feed(text)[0] + splitter.end()[0]).strip()


def answer_of(text: str) -> str:
    """`text` without the thoughts at its start."""
    splitter = ThoughtSplitter()
    return splitter.feed(text)[1] + splitter.end()[1]


def closed(text: str) -> str:
    """`text` with an end to its thoughts if they were cut off."""
    return f"{text}\n{CLOSE}\n\n" if is_thinking(text) else text


def is_thinking(text: str) -> bool:
    """Whether `text` ends within its thoughts."""
    splitter = ThoughtSplitter()
    splitter.feed(text)
    return splitter.is_thinking


class ThoughtsLine:
    """The line that stands for thoughts: what to write as they come, and at their end."""

    _WORDS_PER_DOT = 25

    def __init__(self) -> None:
        self._words = 0
        self._is_in_word = False

    def feed(self, thoughts: str) -> str:
        """The line's start with the first word, then a dot for every _WORDS_PER_DOT words."""
        before = self._words
        for letter in thoughts:
            is_in_word = not letter.isspace()
            self._words += is_in_word and not self._is_in_word
            self._is_in_word = is_in_word
        start = "thinking " if self._words and not before else ""
        step = self._WORDS_PER_DOT
        return start + "." * (self._words // step - before // step)

    def end(self) -> str:
        """The end of the line with the number of words, once; empty without thoughts."""
        words, self._words = self._words, 0
        return f" {words:,} words (/thoughts shows them)\n" if words else ""
