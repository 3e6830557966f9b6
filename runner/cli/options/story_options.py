"""The storytelling options: character cards, lorebooks, your name and your persona."""

from __future__ import annotations

from functools import partial

from .chat_arguments import StoryArguments
from .option_groups import bundled, option
from .types import FILE

_option = partial(option, group="Story")

story_options = bundled(
    "story",
    StoryArguments,
    (
        _option(
            "--character",
            "characters",
            type=FILE,
            multiple=True,
            metavar="CARD",
            help="Play this character card (PNG, JSON or CHARX). Repeatable, for several.",
        ),
        _option(
            "--lorebook",
            "lorebooks",
            type=FILE,
            multiple=True,
            metavar="FILE",
            help="Add this lorebook: SillyTavern's world info, or a card's, in JSON. Repeatable.",
        ),
        _option(
            "--user",
            metavar="NAME",
            default="",
            show_default="User",
            help="Your name in the story.",
        ),
        _option(
            "--persona",
            metavar="FILE|NAME",
            default="",
            show_default="none",
            help="Who you are in the story: a text or JSON file, or a persona's name.",
        ),
    ),
)
"""Their values reach the command as `story`."""
