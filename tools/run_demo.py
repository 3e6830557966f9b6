"""The main job on real weights, command by command: what `make demo` runs.

A dense base is made (once), merged with four adapters by examples/storytellers.yml straight into
three quants, those are compared, and at a terminal the smallest one is there to talk with.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from make_dense_model import FOLDER, dense_checkpoint
from rich.console import Console
from rich.text import Text

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.terminal.text import printable

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "examples/storytellers.yml"
OUT = "demo"
TYPES = ("F16", "Q8_0", "Q4_K_M")
FILES = tuple(f"{OUT}/{Path(RECIPE).stem}-{name}.gguf" for name in TYPES)
REPORT = f"{OUT}/report.html"


@dataclass(frozen=True)
class Step:
    """A heading and the words after `franken-gguf`, from the project's root."""

    title: str
    words: tuple[str, ...]


STEPS = (
    Step(
        f"Four experts, merged straight into {', '.join(TYPES[:-1])} and {TYPES[-1]}",
        (
            *("convert", RECIPE, "-o", OUT, "--overwrite"),
            *(word for name in TYPES for word in ("-q", name)),
        ),
    ),
    Step(
        "Which of them still answers like the full one",
        (
            *("compare", *FILES, "--prompt", "eternal-life"),
            *("-n", "48", "--samples", "2", "--report", REPORT, "--overwrite"),
        ),
    ),
)
CHAT = ("chat", FILES[-1])


def main() -> None:
    """Make the base, run the steps, offer the chat."""
    console = Console(highlight=False)
    try:
        heading(console, "A dense base; the adapters that make experts of it are examples/adapters")
        dense_checkpoint()
        console.print(str(FOLDER.relative_to(ROOT)), soft_wrap=True)
        for step in STEPS:
            heading(console, step.title)
            run(console, step.words)
        console.print(f"\nThe report, for a browser: {REPORT}", soft_wrap=True)
        offer_chat(console)
    except (FrankenError, OSError) as error:
        sys.exit(printable(f"Error: {error}"))
    except (KeyboardInterrupt, EOFError):
        print("\nInterrupted; `make demo` goes on from here.", file=sys.stderr)
        sys.exit(130)


def run(console: Console, words: tuple[str, ...]) -> None:
    """Run franken-gguf with `words` before the user's eyes; where it fails, end as it did."""
    console.print(Text(f"$ franken-gguf {shlex.join(words)}", style="dim"), soft_wrap=True)
    command = str(Path(sys.executable).with_name("franken-gguf"))
    status = subprocess.run([command, *words], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def offer_chat(console: Console) -> None:
    """Start the chat on Enter; where nobody can press it, say how it is started."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        console.print(Text("\nEnter: talk with the four, Ctrl-D: leave ", style="bold"), end="")
        if sys.stdin.readline() == "\n":
            run(console, CHAT)
            return
        console.print()
    console.print("\nTalk with the four:")
    words = f"  .venv/bin/franken-gguf {shlex.join(CHAT)}"
    console.print(Text(words, style="bold"), soft_wrap=True)


def heading(console: Console, text: str) -> None:
    """The title of a step."""
    console.print()
    console.print(Text(text, style="bold"))


if __name__ == "__main__":
    main()
