"""The demo that `make demo` runs: merge, convert, compare and chat with real weights.

It creates a dense base (once), merges it with four adapters by examples/storytellers.yml straight
into three quants, and writes two smaller files of equal size with an importance matrix: a preset,
and one with the best types for that size. It compares them, and at a terminal offers a chat.
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
SMALL = "Q3_K_M"
BEST = f"{SMALL}-size"
FILES = {name: f"{OUT}/{Path(RECIPE).stem}-{name}.gguf" for name in (*TYPES, SMALL, BEST)}
IMATRIX = f"{OUT}/storytellers-imatrix.gguf"
EXPERTS = "storyteller,reasoner,poet,chatterbox"
REPORT = f"{OUT}/report.html"
COMPARED = ("F16", "Q4_K_M", SMALL, BEST)


@dataclass(frozen=True)
class Step:
    """A heading and the arguments of a `franken-gguf` command, run in the project's root."""

    title: str
    words: tuple[str, ...]


STEPS = (
    Step(
        f"Merge four experts straight into {', '.join(TYPES[:-1])} and {TYPES[-1]}",
        (
            *("convert", RECIPE, "-o", OUT, "--overwrite"),
            *(word for name in TYPES for word in ("-q", name)),
        ),
    ),
    Step(
        "Let the mixture read a text: which columns of its weights matter?",
        ("imatrix", FILES["F16"], "--chunks", "8", "-o", IMATRIX, "--overwrite"),
    ),
    Step(
        f"Write {SMALL}, and the best file of the same size: a type for each tensor, measured",
        (
            *("convert", FILES["F16"], "--imatrix", IMATRIX, "-q", SMALL),
            *("--target-size", SMALL, "-o", OUT, "--overwrite"),
        ),
    ),
    Step(
        "Compare them: which still answers like the full model?",
        (
            *("compare", *(FILES[name] for name in COMPARED), "--expert-names", EXPERTS),
            *("--prompt", "eternal-life", "-n", "24", "--report", REPORT, "--overwrite"),
        ),
    ),
)
CHAT = ("chat", FILES["Q4_K_M"])


def main() -> None:
    """Create the base, run the steps, offer the chat."""
    console = Console(highlight=False)
    try:
        heading(
            console, "Create the dense base; its adapters in examples/adapters become the experts"
        )
        dense_checkpoint()
        console.print(str(FOLDER.relative_to(ROOT)), soft_wrap=True)
        for step in STEPS:
            heading(console, step.title)
            run(console, step.words)
        console.print(f"\nOpen the report in a browser: {REPORT}", soft_wrap=True)
        offer_chat(console)
    except (FrankenError, OSError) as error:
        sys.exit(printable(f"Error: {error}"))
    except (KeyboardInterrupt, EOFError):
        print("\nInterrupted; run `make demo` again to resume.", file=sys.stderr)
        sys.exit(130)


def run(console: Console, words: tuple[str, ...]) -> None:
    """Print and run a franken-gguf command; if it fails, exit with its status."""
    console.print(Text(f"$ franken-gguf {shlex.join(words)}", style="dim"), soft_wrap=True)
    command = str(Path(sys.executable).with_name("franken-gguf"))
    status = subprocess.run([command, *words], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def offer_chat(console: Console) -> None:
    """Start the chat on Enter; without a terminal, print the command that starts it."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        console.print(Text("\nEnter: chat with the experts, Ctrl-D: leave ", style="bold"), end="")
        if sys.stdin.readline() == "\n":
            run(console, CHAT)
            return
        console.print()
    console.print("\nChat with the experts:")
    words = f"  .venv/bin/franken-gguf {shlex.join(CHAT)}"
    console.print(Text(words, style="bold"), soft_wrap=True)


def heading(console: Console, text: str) -> None:
    """Print the title of a step."""
    console.print()
    console.print(Text(text, style="bold"))


if __name__ == "__main__":
    main()
