"""The user's line: history, completion, several lines; the one file that knows prompt_toolkit."""

from __future__ import annotations

import sys
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

from .text import printable

_PROMPT, _MORE = "> ", ". "
_YOURS = "bold ansigreen"  # llama-cli's


class Keyboard:
    """Reads lines at a terminal. `is_whole` says whether Enter ends a text, else it goes on.

    `complete` gives what a begun line may become; `history` is a file, None keeps it in memory.
    With `has_colours` the line looks different from the answers.
    """

    def __init__(
        self,
        history: Path | None,
        complete: Callable[[str], list[str]],
        is_whole: Callable[[str], bool],
        *,
        has_colours: bool = False,
    ) -> None:
        # The answers may go to a file: then the line is on standard error.
        output = create_output(always_prefer_tty=True)
        if isinstance(output, Vt100_Output):
            # Where the cursor is matters to menus alone, and some terminals never say.
            output.enable_cpr = False
        style = _YOURS if has_colours else ""
        self._output = output
        self._session: PromptSession[str] = PromptSession(
            [(style, _PROMPT)],
            lexer=SimpleLexer(style),
            multiline=True,
            prompt_continuation=[(style, _MORE)],
            history=_History(history) if history else InMemoryHistory(),
            completer=_Completer(complete),
            complete_while_typing=False,
            # As in a shell: no menu that would move the screen.
            complete_style=CompleteStyle.READLINE_LIKE,
            key_bindings=_keys(is_whole),
            output=output,
        )

    def read(self, begun: str = "") -> str | None:
        """The next line, after a blank one; it begins as `begun`. None at the end (Ctrl-D).

        Raises KeyboardInterrupt for a Ctrl-C on an empty line; on another it clears the line.
        """
        self._output.write_raw("\n")
        try:
            return self._session.prompt(default=begun)
        except EOFError:
            return None


class PlainInput:
    """Lines as the system reads them, for a dumb terminal or none; prompts go to `prompts`."""

    def __init__(self, prompts: TextIO, is_whole: Callable[[str], bool]) -> None:
        self._prompts = prompts
        self._is_whole = is_whole

    def read(self, begun: str = "") -> str | None:
        """The next line after a blank one, several where it begins so; None at the end.

        It cannot begin as `begun`, which is only shown.
        """
        print(file=self._prompts)
        if begun:
            print(printable(begun), file=self._prompts)
        lines: list[str] = []
        while not lines or not self._is_whole("\n".join(lines)):
            print(_MORE if lines else _PROMPT, end="", file=self._prompts, flush=True)
            line = sys.stdin.readline()
            if not line:
                return None
            lines.append(line.removesuffix("\n"))
        return "\n".join(lines)


class _History(FileHistory):
    """Lines in a file; one that cannot be written, on a full disk, is in memory alone."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


class _Completer(Completer):
    def __init__(self, complete: Callable[[str], list[str]]) -> None:
        self._complete = complete

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        begun = document.text_before_cursor
        for text in self._complete(begun):
            yield Completion(text, start_position=-len(begun), display=text)


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
