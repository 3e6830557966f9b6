"""The input line with history, completion and multi-line text, by prompt_toolkit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from franken_gguf.quantize.common.signals import signals_held

from .text import printable

_PROMPT, _MORE = "> ", ". "
_USER_STYLE = "bold ansigreen"  # as in llama-cli


class Keyboard:
    """Reads lines at a terminal.

    `history` is a file; None keeps the history in memory. `complete` returns the completions of a
    line. Enter ends a text if `is_whole` is true for it, otherwise it starts a new line. With
    `has_colours` the line is bold green.
    """

    def __init__(
        self,
        history: Path | None,
        complete: Callable[[str], list[str]],
        is_whole: Callable[[str], bool],
        *,
        has_colours: bool = False,
    ) -> None:
        # If standard output is a file, the input line is on standard error.
        output = create_output(always_prefer_tty=True)
        if isinstance(output, Vt100_Output):
            # Only menus need the cursor's position, and some terminals never report it.
            output.enable_cpr = False
        style = _USER_STYLE if has_colours else ""
        self._output = output
        self._session: PromptSession[str] = PromptSession(
            [(style, _PROMPT)],
            lexer=SimpleLexer(style),
            multiline=True,
            prompt_continuation=[(style, _MORE)],
            history=_History(history) if history else InMemoryHistory(),
            completer=_Completer(complete),
            complete_while_typing=False,
            # As in a shell, without a menu that would scroll the screen.
            complete_style=CompleteStyle.READLINE_LIKE,
            key_bindings=_keys(is_whole),
            output=output,
        )

    def read(self, initial: str = "") -> str | None:
        """Print a blank line, then read a text that starts as `initial`. None at Ctrl-D.

        Ctrl-C clears the line; on an empty line it raises KeyboardInterrupt.
        """
        self._output.write_raw("\n")
        app, arrived = self._session.app, threading.Event()

        def leave() -> None:
            if arrived.is_set() and not app.is_done:
                app.exit(exception=EOFError)

        def wake() -> None:
            if app.loop:
                app.loop.call_soon_threadsafe(leave)

        try:
            with signals_held(arrived, wake):
                return self._session.prompt(default=initial, pre_run=leave)
        except EOFError:
            return None


class PlainInput:
    """Reads lines from standard input, for a dumb terminal or none; prompts go to `prompts`."""

    def __init__(self, prompts: TextIO, is_whole: Callable[[str], bool]) -> None:
        self._prompts = prompts
        self._is_whole = is_whole

    def read(self, initial: str = "") -> str | None:
        """Print a blank line, then read a text of one or more lines; None at the end of input.

        `initial` cannot be edited here, so it is printed above the prompt.
        """
        print(file=self._prompts)
        if initial:
            print(printable(initial), file=self._prompts)
        lines: list[str] = []
        while not lines or not self._is_whole("\n".join(lines)):
            print(_MORE if lines else _PROMPT, end="", file=self._prompts, flush=True)
            line = sys.stdin.readline()
            if not line:
                return None
            lines.append(line.removesuffix("\n"))
        return "\n".join(lines)


class _History(FileHistory):
    """History in a file; a line that cannot be written (disk full) is kept in memory only."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


class _Completer(Completer):
    def __init__(self, complete: Callable[[str], list[str]]) -> None:
        self._complete = complete

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        for text in self._complete(typed):
            yield Completion(text, start_position=-len(typed), display=text)


def _keys(is_whole: Callable[[str], bool]) -> KeyBindings:
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    def clear_or_interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    keys = KeyBindings()
    keys.add("enter")(enter)
    keys.add("escape", "enter")(new_line)
    keys.add("c-c")(clear_or_interrupt)
    return keys
