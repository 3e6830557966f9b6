"""Edits a text in the user's own editor (VISUAL or EDITOR)."""

from __future__ import annotations

import os

import click

from franken_gguf.quantize.common.errors import FrankenError


class EditorError(FrankenError):
    """The editor cannot be run, or ended with an error; the text is unchanged."""


def has_editor() -> bool:
    """Whether VISUAL or EDITOR is set."""
    return bool(os.environ.get("VISUAL") or os.environ.get("EDITOR"))


def edited(text: str) -> str | None:
    """The edited text; None if the user left without saving. Raises EditorError."""
    try:
        # Editors end the last line with a newline, which is not part of the message.
        result = click.edit(text, extension=".md")
    except click.ClickException as error:
        raise EditorError(f"{error.format_message()}; edit it in the input line") from None
    return None if result is None else result.rstrip()
