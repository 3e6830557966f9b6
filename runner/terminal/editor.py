"""The user's own editor, as VISUAL or EDITOR names it."""

from __future__ import annotations

import os

import click

from franken_gguf.quantize.common.errors import FrankenError


class EditorError(FrankenError):
    """The editor cannot be run, or ended with an error; what it was given is as it was."""


def has_editor() -> bool:
    """Whether the user has named one."""
    return bool(os.environ.get("VISUAL") or os.environ.get("EDITOR"))


def edited(text: str) -> str | None:
    """What the user made of `text`; None where they left without saving. Raises EditorError."""
    try:
        # Editors end a file's last line; a message's last line has no such end.
        made = click.edit(text, extension=".md")
    except click.ClickException as error:
        raise EditorError(f"{error.format_message()}; change it in the line") from None
    return None if made is None else made.rstrip()
