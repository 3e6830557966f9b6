"""Shows a character card: its picture in half blocks, its fields beside or below."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.story.card import MAX_FILE_BYTES, Card
from franken_gguf.runner.story.card_fields import StoryError, read_bytes
from franken_gguf.runner.terminal.text import printable

_MAX_PIXELS = 1 << 26
_COLUMNS = 32
_SHOWN = 400  # characters of a text


def card_view(card: Card, console: Console) -> RenderableType:
    """A card for `console`, with its picture if that has colours."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column()
    for name, text in _rows(card):
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        rows.add_row(name, Text("\n".join(map(printable, shown.split("\n")))))
    image = _picture(card, console)
    if image is None:
        return rows
    picture = Segments(half_blocks(image))
    if console.width < 2 * _COLUMNS + 20:
        return Group(picture, rows)
    both = Table.grid(padding=(0, 2))
    both.add_column(width=image.width)
    both.add_row(picture, rows)
    return both


def _rows(card: Card) -> Iterator[tuple[str, str]]:
    yield "name", card.name + (f", called {card.nickname}" if card.nickname else "")
    spec = f"{card.spec} card"
    spec += f", version {card.version}" if card.version else ""
    yield "card", spec + (f", by {card.creator}" if card.creator else "")
    for name, text in (
        ("tags", ", ".join(card.tags)),
        ("notes", card.creator_notes),
        ("description", card.description),
        ("personality", card.personality),
        ("scenario", card.scenario),
        ("system", card.system_prompt),
        ("at the end", card.post_history_instructions),
    ):
        if text.strip():
            yield name, text.strip()
    if len(card.greetings) > 1:
        yield "greetings", f"{len(card.greetings)}; /swipe before your first line shows the next"
    if card.book:
        count = len(card.book.entries)
        yield "lorebook", f"{card.book.name}, {count} {'entry' if count == 1 else 'entries'}"


def _picture(card: Card, console: Console) -> Image.Image | None:
    if card.path is None or not console.is_terminal or console.color_system in (None, "standard"):
        return None
    if console.no_color or console.legacy_windows:
        return None
    return thumbnail(card.path, min(_COLUMNS, console.width - 2))


def thumbnail(path: Path, columns: int) -> Image.Image | None:
    """The picture of a PNG file, `columns` wide and twice as high at most; None if it is broken."""
    try:
        data = read_bytes(path, MAX_FILE_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=["PNG"])
            if opened.width * opened.height > _MAX_PIXELS:
                return None
            image = opened.convert("RGB")
            image.thumbnail((columns, 2 * columns))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        StoryError,
        OSError,
        SyntaxError,  # Pillow's, for broken PNGs
        ValueError,
    ):
        return None
    return image


def half_blocks(image: Image.Image) -> Iterator[Segment]:
    """Two pixels per character: the upper as foreground, the lower as background colour."""
    pixels = image.load()
    assert pixels is not None
    for top in range(0, image.height - 1, 2):
        for x in range(image.width):
            upper, lower = pixels[x, top], pixels[x, top + 1]
            assert isinstance(upper, tuple) and isinstance(lower, tuple)
            colours = (Color.from_rgb(*upper[:3]), Color.from_rgb(*lower[:3]))
            yield Segment("\N{UPPER HALF BLOCK}", Style.from_color(*colours))
        yield Segment.line()
