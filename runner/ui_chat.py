"""The screen and keyboard of `franken-gguf chat`: answers on stdout, all else on stderr."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rich.console import Console
from rich.text import Text

from franken_gguf.quantize.errors import FrankenError

from .chat import Answer, Chat
from .escapes import EscapeFilter
from .terminal import printable

MAX_PIPED_BYTES = 1 << 24
# A pipe that nobody writes to may never end: with -p there is something to answer without it.
_PIPE_PATIENCE = 10.0

HELP = {
    "/clear": "forget the conversation, keep the system text",
    "/help": "this list",
    "/bye": "leave; so do /exit, /quit and Ctrl-D",
    "//...": "send a text that begins with a slash",
    "Ctrl-C": "stop the answer; what came of it stays",
}
_LEAVE = ("/bye", "/exit", "/quit")


class Screen:
    """Where a chat is shown: answers on standard output, notices and figures on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(stderr=True, highlight=False) if console is None else console
        self._dim = "" if self.console.no_color else "dim"
        self.output = sys.stdout
        if isinstance(self.output, io.TextIOWrapper):
            # A terminal that cannot show a character gets a mark, not the end of the chat.
            self.output.reconfigure(errors="replace")

    def notice(self, text: str) -> None:
        """Say something that is no answer."""
        self.console.print(Text(printable(text), self._dim), soft_wrap=True)

    def error(self, error: FrankenError) -> None:
        """Say what went wrong, in one line, as the command itself does at its end."""
        self.console.print(Text(f"Error: {printable(str(error))}"), soft_wrap=True)

    @contextmanager
    def loading(self, name: str) -> Iterator[Callable[[float], None]]:
        """Show how far a load is, at a terminal, by calling what this gives with 0 to 1."""
        label = f"loading {printable(name)}"
        with self.console.status(label) as status:
            yield lambda part: status.update(f"{label} {100 * part:.0f} %")

    def show(self, answer: Answer) -> None:
        """Stream an answer, then its figures. Raises what the engine does."""
        shown = EscapeFilter()
        begun = False
        if answer.dropped_turns:
            self.notice(
                f"the conversation outgrew the context: its first {answer.dropped_turns} turns "
                "are forgotten (-c gives more context)"
            )
        try:
            for piece in answer:
                # SentencePiece begins an answer with a space, which is no part of what is said.
                text = shown.feed(piece) if begun else shown.feed(piece).lstrip()
                begun = begun or bool(text)
                self.output.write(text)
                self.output.flush()
        finally:
            self.output.write("\n")
            self.output.flush()
        self.notice(figures(answer))

    def question(self) -> str | None:
        """The user's next line at the terminal; None at its end (Ctrl-D)."""
        try:
            if self.output.isatty():
                return input("> ")
            self.console.print("> ", end="")
            return sys.stdin.readline().removesuffix("\n") or None
        except EOFError:
            self.console.print()
            return None


def figures(answer: Answer) -> str:
    """One line on how an answer came about: tokens, speed, what of the prompt was evaluated."""
    done = answer.generation
    reused = done.prompt_tokens - done.prompt_evaluated
    parts = [
        f"{done.tokens} tokens, {done.tokens_per_second:.1f} tokens/s",
        f"prompt {done.prompt_evaluated} evaluated in {done.prompt_seconds:.2f} s, {reused} reused",
    ]
    reasons = {
        "length": "stopped at the limit of -n",
        "context": "stopped: the context is full (-c gives more)",
        "interrupted": "stopped",
    }
    if done.finish in reasons:
        parts.append(reasons[done.finish])
    return f"[{'; '.join(parts)}]"


def talk(chat: Chat, screen: Screen, stop: threading.Event) -> None:
    """Questions from the keyboard and answers, until the user leaves."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives input() line editing, where Python has it
    # Also between two answers: a Ctrl-C that comes just after one must not end the program.
    with hearing_ctrl_c(stop):
        _turns(chat, screen, stop)


def _turns(chat: Chat, screen: Screen, stop: threading.Event) -> None:
    while True:
        try:
            with _raising_ctrl_c():
                line = screen.question()
        except KeyboardInterrupt:
            screen.console.print()
            screen.notice("Ctrl-D or /bye leaves")
            continue
        if line is None or line.strip() in _LEAVE:
            return
        text = clean(line)
        if text.startswith("//"):
            text = text[1:]
        elif text.startswith("/"):
            _command(text, chat, screen)
            continue
        if not text.strip():
            continue
        try:
            with hearing_ctrl_c(stop):
                screen.show(chat.ask(text))
        except FrankenError as error:
            screen.error(error)


def _command(line: str, chat: Chat, screen: Screen) -> None:
    command, _, rest = line.strip().partition(" ")
    if command == "/help" and not rest:
        width = max(map(len, HELP))
        for name, what in HELP.items():
            screen.notice(f"{name:{width}}  {what}")
    elif command == "/clear" and not rest:
        chat.conversation.clear()
        screen.notice("the conversation is forgotten")
    elif command in HELP or command in _LEAVE:
        screen.error(FrankenError(f"{command} takes nothing after it"))
    else:
        screen.error(
            FrankenError(
                f"no command {command}; /help lists them, //{command[1:]} sends it as text"
            )
        )


def answer_once(chat: Chat, screen: Screen, stop: threading.Event, question: str) -> None:
    """One answer. Raises KeyboardInterrupt where Ctrl-C stopped it."""
    with hearing_ctrl_c(stop):
        answer = chat.ask(question)
        screen.show(answer)
    if answer.generation.finish == "interrupted":
        raise KeyboardInterrupt


@contextmanager
def hearing_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop` here, for the engine to hear: an exception cannot cross llama.cpp."""

    def on_interrupt(_: int, __: FrameType | None) -> None:
        stop.set()

    stop.clear()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _raising_ctrl_c() -> Iterator[None]:
    """Ctrl-C is Python's KeyboardInterrupt here, as where a line is read."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def has_keyboard() -> bool:
    """Whether somebody can answer back: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def piped_text(screen: Screen, *, has_prompt: bool) -> str:
    """All of standard input where it is no terminal, else nothing.

    With a prompt given besides, a pipe on which nothing comes is left alone after a while.
    """
    if sys.stdin is None or has_keyboard():
        return ""
    if has_prompt and not _comes(1.0):
        screen.notice("waiting for standard input (< /dev/null for none)")
        if not _comes(_PIPE_PATIENCE):
            screen.notice("nothing comes on standard input: going on without")
            return ""
    data = sys.stdin.buffer.read(MAX_PIPED_BYTES + 1)
    if len(data) > MAX_PIPED_BYTES:
        raise FrankenError(f"standard input holds more than {MAX_PIPED_BYTES >> 20} MiB")
    return clean(data.decode(errors="replace")).strip()


def _comes(seconds: float) -> bool:
    if os.name == "nt":  # select knows only sockets there
        return True
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def clean(text: str) -> str:
    """`text` without the lone surrogates that stand for bytes that were no UTF-8."""
    return text.encode(errors="replace").decode()
