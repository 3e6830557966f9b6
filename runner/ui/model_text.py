"""Writes a model's streamed text: escape sequences removed, coloured and word-wrapped."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from franken_gguf.runner.conversation.thoughts import ThoughtsLine, ThoughtSplitter
from franken_gguf.runner.terminal.ansi_filter import EscapeFilter
from franken_gguf.runner.terminal.speech_marks import Mark, MarkedText, Span, merged
from franken_gguf.runner.terminal.text import printable
from franken_gguf.runner.terminal.word_wrap import WordWrap

USER_STYLE = "bold green"  # as in llama-cli
SPEAKER_STYLE = "bold cyan"
_STYLES = {  # as in SillyTavern: speech orange, actions grey and italic
    Mark.NONE: "",
    Mark.SPEECH: "dark_orange",
    Mark.ACTION: "italic dim",
    Mark.SPEECH | Mark.ACTION: "italic dark_orange",
}


def has_cursor(console: Console) -> bool:
    """Whether `console` is a terminal that can do more than print lines."""
    return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal


def has_colours(console: Console) -> bool:
    """Whether `console` shows colours and styles."""
    return has_cursor(console) and not console.no_color and console.color_system is not None


class WrittenText:
    """Writes one text to `console`: `feed` it each piece, then call `end`.

    At a terminal the text starts with the `speaker`'s name; if the model writes the name as well,
    it is shown once, and thoughts (<think>) are folded into one line. A pipe gets `opening` and the
    text, unchanged.
    """

    def __init__(self, console: Console, speaker: str = "", opening: str = "") -> None:
        self._console = console
        self._escapes = EscapeFilter()
        # The last column stays free: terminals differ in when they wrap after it.
        self._wrap = WordWrap(lambda: console.width - 1) if has_cursor(console) else None
        self._marks = MarkedText() if has_colours(console) else None
        self._speaker = printable(speaker) if self._wrap else ""
        self._name_remover = _NameRemover(f"{speaker}:") if self._speaker else None
        self._has_text = False
        self._thoughts = ThoughtSplitter() if self._wrap else None
        self._fold = ThoughtsLine()
        if opening and not self._wrap:
            self._console.file.write(f"{printable(opening)} ")

    def feed(self, piece: str) -> None:
        """Write what can be shown of the text now."""
        text = self._escapes.feed(piece)
        if self._thoughts:
            thoughts, text = self._thoughts.feed(text)
            self._dimly(self._fold.feed(thoughts))
        self._write_answer(text)

    def end(self) -> None:
        """Write the rest and end the line."""
        if self._thoughts:
            thoughts, text = self._thoughts.end()
            self._dimly(self._fold.feed(thoughts) + self._fold.end())
            self._write_answer(text)
        if self._name_remover:
            self._write(self._name_remover.end())
        if self._marks:
            self._put(self._wrapped(self._marks.end()))
        if self._wrap:
            self._put(self._wrap.end())
        if self._has_text or not self._wrap:
            self._console.file.write("\n")
        self._console.file.flush()

    def _write_answer(self, text: str) -> None:
        if text:
            self._dimly(self._fold.end())
        self._write(self._name_remover.feed(text) if self._name_remover else text)

    def _dimly(self, text: str) -> None:
        if text:
            style = "dim" if self._marks else ""
            self._console.print(Text(text, style, end=""), end="", soft_wrap=True)

    def _write(self, text: str) -> None:
        if not self._wrap:
            self._console.file.write(text)
            self._console.file.flush()
            return
        if not self._has_text:
            text = text.lstrip()
        if text:
            if not self._has_text and self._speaker:
                name = self._wrap.feed(f"{self._speaker}:")
                self._put(name + self._wrap.end(), SPEAKER_STYLE)
                self._wrap.feed(" ")
            self._put(self._wrapped(self._marks.feed(text) if self._marks else [(text, Mark.NONE)]))

    def _wrapped(self, spans: list[Span]) -> list[Span]:
        assert self._wrap is not None
        return [shown for span in spans for shown in self._wrap.feed(*span)]

    def _put(self, spans: list[Span], style: str = "") -> None:
        if not spans:
            return
        self._has_text = True
        text = Text(end="")
        for part, mark in merged(spans):
            text.append(part, (style or _STYLES[mark]) if self._marks else None)
        self._console.print(text, end="", soft_wrap=True)


class _NameRemover:
    """Removes `name` from the beginning of a streamed text."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = ""
        self._is_past = False

    def feed(self, piece: str) -> str:
        if self._is_past:
            return piece
        self._held += piece
        if self._name.startswith(self._held):
            return ""
        rest = self._held
        if rest.startswith(self._name):
            rest = rest.removeprefix(self._name).lstrip()
        self._is_past = bool(rest)
        return rest

    def end(self) -> str:
        return "" if self._is_past else self._held.removeprefix(self._name).lstrip()
