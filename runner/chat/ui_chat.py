"""The screen of `franken-gguf chat`: answers on stdout, all else on stderr; its loop of turns."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from rich.console import Console
from rich.text import Text as Styled

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.runner.engine.interrupt import hearing_ctrl_c, hiding_keys, raising_ctrl_c
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.ui_card import sheet
from franken_gguf.runner.terminal import printable

from . import clipboard, editor
from .actions import Copy, Edit, Leave, Outcome
from .answer import Answer, Forgotten, Piece, Remembered, Text
from .commands import respond
from .dialogue import Dialogue
from .drawing import Experts, Probabilities
from .escapes import EscapeFilter
from .impersonation import Draft
from .recorded import recorded
from .second_tries import change
from .standard_input import clean
from .ui_drawing import experts, probabilities
from .wrap import WordWrap


class Lines(Protocol):
    """Where the user's lines come from."""

    def read(self, begun: str = "") -> str | None:
        """The next one, None at the end. Raises KeyboardInterrupt."""


class Screen:
    """Where a chat is shown: answers on standard output, notices and figures on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(stderr=True, highlight=False) if console is None else console
        self._dim = "" if self.console.no_color else "dim"
        # At a terminal that can do more than print, lines end between words.
        self._wraps = self.console.is_terminal and not self.console.is_dumb_terminal
        self.output = sys.stdout
        if isinstance(self.output, io.TextIOWrapper):
            # A terminal that cannot show a character gets a mark, not the end of the chat.
            self.output.reconfigure(errors="replace")

    def notice(self, text: str) -> None:
        """Say something that is no answer, line by line."""
        shown = "\n".join(map(printable, text.split("\n")))
        self.console.print(Styled(shown, self._dim), soft_wrap=not self._wraps)

    def error(self, error: FrankenError) -> None:
        """Say what went wrong, in one line, as the command itself does at its end."""
        self.console.print(Styled(f"Error: {printable(str(error))}"), soft_wrap=not self._wraps)

    @contextmanager
    def saying_errors(self) -> Iterator[None]:
        """Let what the user can mend end what is done here, and no more than that."""
        try:
            yield
        except FrankenError as error:
            self.error(error)

    @contextmanager
    def loading(self, name: str) -> Iterator[Callable[[float], None]]:
        """Show how far a load is, at a terminal, by calling what this gives with 0 to 1."""
        label = f"loading {printable(name)}"
        with self.console.status(label) as status:
            yield lambda part: status.update(f"{label} {100 * part:.0f} %")

    def say(self, text: str) -> None:
        """Show what a character says without a model: a greeting."""
        wrap = self._word_wrap()
        text = EscapeFilter().feed(text)
        self.output.write((wrap.feed(text) + wrap.end() if wrap else text) + "\n")
        self.output.flush()

    def _word_wrap(self) -> WordWrap | None:
        # The last column stays free: terminals differ in what a character there does.
        is_wrapped = self._wraps and self.output.isatty()
        return WordWrap(self.console.width - 1) if is_wrapped else None

    def show(
        self, answer: Answer, pieces: Generator[Piece, None, None], *, with_figures: bool = True
    ) -> None:
        """Stream the pieces of an answer, then its figures. Raises what the engine does."""
        escapes = EscapeFilter()
        wrap = self._word_wrap()
        if answer.opening:
            opening = f"{answer.opening} "
            self.output.write(wrap.feed(opening) if wrap else opening)
        try:
            # Closed before anything is saved: what came of the answer is then in the conversation.
            with closing(pieces):
                for piece in pieces:
                    if isinstance(piece, Text):
                        text = escapes.feed(piece.text)
                        self.output.write(wrap.feed(text) if wrap else text)
                        self.output.flush()
                    else:
                        self._say_what_left(piece)
        finally:
            self.output.write((wrap.end() if wrap else "") + "\n")
            self.output.flush()
        if with_figures:
            self.notice(figures(answer))

    def _say_what_left(self, piece: Piece) -> None:
        if isinstance(piece, Forgotten):
            memory = "" if piece.is_summed_up else ", --summarize a memory"
            turns = "turn leaves" if piece.turns == 1 else f"{piece.turns} turns leave"
            self.notice(
                f"the conversation outgrew the context: its oldest {turns} it, the transcript "
                f"keeps them (-c gives more context{memory})"
            )
        elif isinstance(piece, Remembered):
            self.notice(f"what the model remembers of it: {' '.join(piece.text.split())}")


def figures(answer: Answer) -> str:
    """One line on how an answer came about: tokens, speed, what of the prompt was evaluated."""
    done = answer.generation
    parts = [
        f"{done.tokens} tokens, {done.tokens_per_second:.1f} tokens/s",
        f"prompt {done.prompt_evaluated} evaluated in {done.prompt_seconds:.2f} s, "
        f"{done.prompt_reused} reused",
        f"context {done.prompt_tokens + done.tokens} of {done.n_ctx}",
    ]
    if done.taken_back:
        parts.append(f"{done.taken_back} taken back")
    reasons = {
        "length": "stopped at the limit of -n",
        "context": "stopped: the context is full (-c gives more)",
        "interrupted": "stopped",
    }
    if done.finish in reasons:
        parts.append(reasons[done.finish])
    return f"[{'; '.join(parts)}]"


def talk(dialogue: Dialogue, screen: Screen, lines: Lines, stop: threading.Event) -> None:
    """Questions from the keyboard and answers, saved after each, until the user leaves."""
    begun: Edit | Draft | None = None
    # Also between two answers: a Ctrl-C that comes just after one must not end the program.
    with hearing_ctrl_c(stop):
        while True:
            try:
                with raising_ctrl_c():
                    line = lines.read(begun.text if begun else "")
            except KeyboardInterrupt as interrupt:
                if type(interrupt) is not KeyboardInterrupt:
                    raise  # a SIGTERM or SIGHUP means it
                screen.notice("Ctrl-D or /bye leaves")
                begun = None
                continue
            if line is None:
                return
            outcome = None
            with screen.saying_errors():
                outcome = respond(dialogue, clean(line), begun if isinstance(begun, Edit) else None)
                # Where the editor fails, the line is the editor.
                if isinstance(outcome, Edit) and editor.has_editor():
                    outcome = _edited(dialogue, outcome)
            begun = outcome if isinstance(outcome, Edit | Draft) else None
            if isinstance(outcome, Leave):
                return
            try:
                with screen.saying_errors(), hearing_ctrl_c(stop), hiding_keys():
                    _show(outcome, dialogue, screen)
            finally:  # also where the terminal is gone: what came of an answer is kept
                with screen.saying_errors():
                    dialogue.save()


def _edited(dialogue: Dialogue, edit: Edit) -> Outcome:
    text = editor.edited(edit.text)
    return "nothing is changed" if text is None else change(dialogue, edit, clean(text))


def _show(outcome: Outcome | None, dialogue: Dialogue, screen: Screen) -> None:
    if isinstance(outcome, str):
        screen.notice(outcome)
    elif isinstance(outcome, Answer):
        try:
            pieces = recorded(dialogue, outcome)
            screen.show(outcome, pieces, with_figures=dialogue.show_figures)
        finally:
            dialogue.totals.add(outcome)
            _say_what_is_allowed(dialogue, screen)
    elif isinstance(outcome, Draft):
        with screen.console.status("writing your line"):
            outcome.read()
    elif isinstance(outcome, Probabilities):
        screen.console.print(probabilities(outcome))
    elif isinstance(outcome, Experts):
        screen.console.print(experts(outcome, screen.console.width))
    elif isinstance(outcome, Card):
        screen.console.print(sheet(outcome, screen.console))
    elif isinstance(outcome, Copy):
        clipboard.copy(outcome.text)
        screen.notice(f"{len(outcome.text)} characters copied")


def _say_what_is_allowed(dialogue: Dialogue, screen: Screen) -> None:
    """Of banned expressions, those that took too long."""
    given_up = dialogue.chat.banned.given_up
    while given_up:
        screen.notice(f"no longer banned, it takes too long to look for: {given_up.pop()}")


def answer_once(dialogue: Dialogue, screen: Screen, stop: threading.Event, question: str) -> None:
    """One answer, saved. Raises KeyboardInterrupt where Ctrl-C stopped it."""
    with hearing_ctrl_c(stop):
        answer = dialogue.chat.ask(question)
        try:
            screen.show(answer, recorded(dialogue, answer))
        finally:
            _say_what_is_allowed(dialogue, screen)
            dialogue.save()
    if answer.generation.finish == "interrupted":
        raise KeyboardInterrupt
