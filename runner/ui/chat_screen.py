"""The screen of `franken-gguf chat` and its loop: answers on stdout, everything else on stderr."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.segment import Segment, Segments
from rich.text import Text as Styled

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.answer import Answer, Piece, Summarized, Text, Truncated
from franken_gguf.runner.chat.answer_figures import Figures, figures
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.impersonation import Draft
from franken_gguf.runner.chat.recorded_answer import recorded
from franken_gguf.runner.chat.replay import Line, Replay, fitting
from franken_gguf.runner.commands.command_table import help_text, is_command, respond
from franken_gguf.runner.commands.general_commands import Copy, Edit, Help, Leave, Outcome
from franken_gguf.runner.commands.history_commands import change
from franken_gguf.runner.commands.sampling_commands import Experts, Probabilities
from franken_gguf.runner.engine.interrupt import ctrl_c_sets, hiding_keys, raising_ctrl_c
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.terminal import clipboard, editor
from franken_gguf.runner.terminal.ansi_filter import EscapeFilter
from franken_gguf.runner.terminal.standard_input import clean
from franken_gguf.runner.terminal.text import printable

from .card_view import card_view
from .model_text import USER_STYLE, WrittenText, has_colours
from .token_view import experts, probabilities

PROMPT, MORE = "> ", ". "
_AROUND = 7  # lines for notices and the prompt


class Lines(Protocol):
    """A source of the user's lines."""

    def read(self, initial: str = "") -> str | None:
        """The next line, which starts as `initial`; None at the end. Raises KeyboardInterrupt."""


class Screen:
    """Shows a chat: answers on standard output, notices and figures on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(stderr=True, highlight=False) if console is None else console
        self._dim = "" if self.console.no_color else "dim"
        self._wraps = self.console.is_terminal and not self.console.is_dumb_terminal
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A character that the terminal's encoding lacks becomes a question mark, not an error.
            sys.stdout.reconfigure(errors="replace")
        self.answers = Console(file=sys.stdout, highlight=False)

    def notice(self, text: str) -> None:
        """Print a message that is not an answer."""
        shown = "\n".join(printable(line.rstrip()) for line in text.split("\n"))
        self.print(Styled(shown, self._dim))

    def error(self, error: FrankenError) -> None:
        """Print an error in one line, as for an error that ends the command."""
        self.print(Styled(f"Error: {printable(str(error))}"))

    @contextmanager
    def printing_errors(self) -> Iterator[None]:
        """Print a FrankenError that is raised inside, and continue."""
        try:
            yield
        except FrankenError as error:
            self.error(error)

    @contextmanager
    def loading(self, name: str) -> Iterator[Callable[[float], None]]:
        """Yield a function that shows how much is loaded (0 to 1), at a terminal."""
        label = f"loading {printable(name)}"
        with self.console.status(label) as status:
            yield lambda part: status.update(f"{label} {100 * part:.0f} %")

    def greeting(self, text: str, speaker: str = "", opening: str = "") -> None:
        """Show a character's greeting as an answer."""
        _write(self.answers, text, speaker, opening)

    def replay(self, replay: Replay) -> None:
        """Show a notice and messages again: the user's with the prompt, the others as answers."""
        self.notice(replay.notice)
        lines: Sequence[Line] = replay.lines
        if replay.is_cut:
            lines = fitting(lines, self.console.width, self.console.height - _AROUND)
        for place, line in enumerate(lines):
            if line.is_yours or (place and not lines[place - 1].is_yours):
                self.console.print()  # a blank line between turns
            if line.is_yours:
                self._user_line(line.text)
            else:
                _write(self.console, line.text, line.speaker)

    def _user_line(self, text: str) -> None:
        style = USER_STYLE if has_colours(self.console) else ""
        lines = EscapeFilter().feed(text).split("\n")
        shown = "\n".join(f"{MORE if n else PROMPT}{line}".rstrip() for n, line in enumerate(lines))
        self.print(Styled(shown, style))

    def show(
        self, answer: Answer, pieces: Generator[Piece, None, None], wanted: Figures = "short"
    ) -> None:
        """Stream the pieces of an answer, then its figures. Raises EngineError, PromptError."""
        text = WrittenText(self.answers, answer.speaker, answer.opening)
        try:
            # Closed before anything is saved, so that the conversation has the answer so far.
            with closing(pieces):
                for piece in pieces:
                    if isinstance(piece, Text):
                        text.feed(piece.text)
                    else:
                        self._report_truncation(piece)
        finally:
            text.end()
        if wanted != "off":
            self.notice(figures(answer.generation, is_full=wanted == "full"))

    def print(self, renderable: RenderableType) -> None:
        """Print without trailing spaces; a dumb terminal or a pipe gets its text unwrapped."""
        if not self._wraps and isinstance(renderable, Styled):
            self.console.print(renderable, soft_wrap=True)
            return
        for line in self.console.render_lines(renderable, pad=False):
            shown = Segment.strip_styles(line) if self.console.no_color else line
            ended = [*_trimmed(list(shown)), Segment.line()]
            self.console.print(Segments(ended), end="", soft_wrap=True)

    def _report_truncation(self, piece: Piece) -> None:
        if isinstance(piece, Truncated):
            summarize = "" if piece.is_summed_up else ", --summarize keeps a summary"
            turns = "turn is" if piece.turns == 1 else f"{piece.turns} turns are"
            self.notice(
                f"the context is full: the oldest {turns} no longer sent to the model, the "
                f"transcript keeps everything (-c sets a larger context{summarize})"
            )
        elif isinstance(piece, Summarized):
            self.notice(f"summary of the earlier turns: {' '.join(piece.text.split())}")


def _write(console: Console, text: str, speaker: str = "", opening: str = "") -> None:
    written = WrittenText(console, speaker, opening)
    written.feed(text)
    written.end()


def _trimmed(line: list[Segment]) -> list[Segment]:
    """A line of segments without trailing spaces."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


def talk(dialogue: Dialogue, screen: Screen, lines: Lines, stop: threading.Event) -> None:
    """Read lines and show what they lead to, saving after each, until the user leaves.

    A text that the model does not get, or whose answer does not begin, returns to the line.
    """
    typed, edit = "", None
    # Also between answers: a Ctrl-C just after the end of one must not end the program.
    with ctrl_c_sets(stop):
        while True:
            try:
                with raising_ctrl_c():
                    line = lines.read(typed)
            except KeyboardInterrupt as interrupt:
                if type(interrupt) is not KeyboardInterrupt:
                    raise  # SIGTERM or SIGHUP
                screen.notice("press Ctrl-D or type /bye to leave")
                typed, edit = "", None
                continue
            if line is None:
                return
            outcome, messages = None, dialogue.chat.conversation.messages
            with screen.printing_errors():
                outcome = respond(dialogue, clean(line), edit)
                # If the editor fails, the message is edited in the input line.
                if isinstance(outcome, Edit) and editor.has_editor():
                    outcome = _edited(dialogue, outcome)
            if isinstance(outcome, Leave):
                return
            try:
                with screen.printing_errors(), ctrl_c_sets(stop), hiding_keys():
                    _show(outcome, dialogue, screen)
            finally:  # even if the terminal is gone: the answer so far is saved
                with screen.printing_errors():
                    dialogue.save()
            if isinstance(outcome, Edit | Draft):
                typed, edit = outcome.text, outcome if isinstance(outcome, Edit) else None
            elif _is_unanswered(line, outcome) and dialogue.chat.conversation.messages is messages:
                typed = clean(line)
            else:
                typed, edit = "", None


def _is_unanswered(line: str, outcome: Outcome | None) -> bool:
    return not is_command(line) and (outcome is None or isinstance(outcome, Answer))


def _edited(dialogue: Dialogue, edit: Edit) -> Outcome:
    text = editor.edited(edit.text)
    return "nothing changed" if text is None else change(dialogue, edit, clean(text))


def _show(outcome: Outcome | None, dialogue: Dialogue, screen: Screen) -> None:
    if isinstance(outcome, str):
        screen.notice(outcome)
    elif isinstance(outcome, Answer):
        try:
            screen.show(outcome, recorded(dialogue, outcome), dialogue.figures)
        finally:
            dialogue.totals.add(outcome)
            _report_given_up_bans(dialogue, screen)
    elif isinstance(outcome, Draft):
        with screen.console.status("drafting your line"):
            outcome.read()
    elif isinstance(outcome, Replay):
        screen.replay(outcome)
    elif isinstance(outcome, Help):
        screen.notice(help_text(screen.console.width))
    elif isinstance(outcome, Probabilities):
        console = screen.console
        colours = has_colours(console)
        screen.print(probabilities(outcome, console.width, has_colours=colours))
    elif isinstance(outcome, Experts):
        screen.print(experts(outcome, screen.console))
    elif isinstance(outcome, Card):
        screen.print(card_view(outcome, screen.console))
    elif isinstance(outcome, Copy):
        clipboard.copy(outcome.text)
        screen.notice(f"copied {len(outcome.text)} characters")


def _report_given_up_bans(dialogue: Dialogue, screen: Screen) -> None:
    """Report banned expressions that took too long and were given up."""
    given_up = dialogue.chat.banned.given_up
    while given_up:
        screen.notice(f"no longer banned because searching for it takes too long: {given_up.pop()}")


def answer_once(dialogue: Dialogue, screen: Screen, stop: threading.Event, question: str) -> None:
    """Show one answer and save it. Raises KeyboardInterrupt if Ctrl-C stopped it."""
    with ctrl_c_sets(stop):
        answer = dialogue.chat.ask(question)
        try:
            screen.show(answer, recorded(dialogue, answer))
        finally:
            _report_given_up_bans(dialogue, screen)
            dialogue.save()
    if answer.generation.finish == "interrupted":
        raise KeyboardInterrupt
