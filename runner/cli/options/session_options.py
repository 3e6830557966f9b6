"""The options for resuming a saved chat and for saving this one."""

from __future__ import annotations

from functools import partial

from .chat_arguments import SessionArguments
from .completion import sessions
from .option_groups import bundled, option
from .types import FILE

_option = partial(option, group="Session")

session_options = bundled(
    "session",
    SessionArguments,
    (
        _option(
            "--session",
            "name",
            metavar="NAME",
            shell_complete=sessions,
            help="Resume the saved chat of this name, or start it.",
        ),
        _option(
            "--continue",
            "is_resumed",
            is_flag=True,
            help="Resume the chat that was saved last, or the one that --session names.",
        ),
        _option(
            "--import",
            "imported",
            type=FILE,
            metavar="FILE",
            help="Start with a chat exported from SillyTavern, a .jsonl file.",
        ),
        _option("--no-save", is_flag=True, help="Do not save this chat."),
        _option(
            "--keep-context",
            is_flag=True,
            help="Save the evaluated context too, so that a long chat resumes at once.",
        ),
    ),
)
"""Their values reach the command as `session`."""
