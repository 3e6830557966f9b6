"""Draw docs/terminal.svg: commands of the README, run at a real terminal after `make demo`.

    pip install pyte
    python tools/make_pictures.py

A pseudo-terminal of WIDTH columns runs each command, pyte keeps the screen, rich draws it.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH, HEIGHT = 92, 200
PATIENCE = 300.0  # seconds that a command can take
PROMPT = "> "


@dataclass(frozen=True)
class Shot:
    """A command after `franken-gguf`, and the lines typed at its prompts."""

    command: str
    lines: tuple[str, ...] = ()


SHOTS = (
    Shot("convert examples/storytellers.yml -q Q4_K_M -o demo --overwrite"),
    Shot(
        "chat demo/storytellers-Q4_K_M.gguf --character examples/story/mara.png "
        "--no-save --expert-names examples/storytellers.yml --experts --seed 5 -n 80",
        ("Who keeps the light when the fog comes in?", "/experts", "/bye"),
    ),
)


def main() -> None:
    """Run the commands and write the picture."""
    picture = Console(record=True, width=WIDTH, file=io.StringIO())
    for shot in SHOTS:
        picture.print(Text(f"$ franken-gguf {shot.command}", style="bold green"))
        picture.print(screen_of(shot))
    drawing = picture.export_svg(title="franken-gguf")
    # rich names fonts on a server; without them a viewer takes its own fixed-width font.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    PICTURE.write_text(drawing, encoding="utf-8")


def screen_of(shot: Shot) -> Text:
    """The terminal's contents after the command has ended."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    command = [str(Path(sys.executable).with_name("franken-gguf")), *shlex.split(shot.command)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as process:
        os.close(theirs)
        lines, deadline = list(shot.lines), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    stream.feed(os.read(ours, 1 << 16))
                except OSError:  # the other end is closed
                    break
            elif lines and screen.display[screen.cursor.y].rstrip(" ") == PROMPT.rstrip(" "):
                os.write(ours, f"{lines.pop(0)}\r".encode())
        if process.wait() != 0:
            sys.exit(f"{shot.command}: ended with status {process.returncode}")
    os.close(ours)
    return drawn(screen)


def drawn(screen: pyte.Screen) -> Text:
    """The screen's lines with their colours."""
    last = max(
        (place for place, line in enumerate(screen.display) if line.strip()),
        default=-1,
    )
    text = Text()
    for place in range(last + 1):
        line = Text()
        for column in range(WIDTH):
            cell = screen.buffer[place][column]
            line.append(cell.data, style_of(cell))
        line.rstrip()
        text.append_text(line).append("\n")
    return text


def style_of(cell: pyte.screens.Char) -> Style:
    """A cell's style for rich."""
    named = {"brown": "yellow", "default": None}
    hexadecimal = len(cell.fg) == 6 and all(char in "0123456789abcdef" for char in cell.fg)
    colour = f"#{cell.fg}" if hexadecimal else named.get(cell.fg, cell.fg)
    if colour and colour.startswith("bright"):
        colour = f"bright_{colour.removeprefix('bright')}"
    return Style(color=colour, bold=cell.bold, italic=cell.italics, reverse=cell.reverse)


if __name__ == "__main__":
    main()
