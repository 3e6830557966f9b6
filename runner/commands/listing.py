"""Lists as text: names with their values, and texts by their beginnings."""

from __future__ import annotations

from collections.abc import Mapping

from franken_gguf.runner.terminal.graphemes import beginning


def table(rows: Mapping[str, object]) -> str:
    """Each name with its value, in two columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def shortened(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text[:400].split())
    return beginning(line, 40)
