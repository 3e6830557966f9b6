"""The main job on real weights, step by step: what `make demo` runs.

A checkpoint of four experts is made (once), converted to two quants in one pass, and both answer
the same question, greedily, side by side.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from make_demo_model import FOLDER, demo_checkpoint
from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.runner import LoadOptions, load
from franken_gguf.runner.terminal import printable, size

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo"
TYPES = ("Q8_0", "Q4_0")
QUESTION = (
    "If you could choose between eternal life and a mortal life that ends, which would you choose? "
    "Explain your choice."
)
MAX_TOKENS = 200
SIDE_BY_SIDE_COLUMNS = 100


@dataclass(frozen=True)
class Answer:
    """What one file said, and how fast."""

    file: Path
    text: str
    is_cut: bool
    tokens_per_second: float


def main() -> None:
    """Make, convert, ask, show."""
    console = Console(highlight=False)
    try:
        heading(console, "A checkpoint of four experts, as mergekit-moe leaves one")
        checkpoint = demo_checkpoint(FOLDER)
        console.print(f"{shown(checkpoint)}  ({size(folder_bytes(checkpoint))})", soft_wrap=True)

        heading(console, f"One pass over it writes {' and '.join(TYPES)}")
        convert(console, checkpoint)

        heading(
            console,
            "Both are asked one question, the likeliest token each time (repeat penalty 1.1)",
        )
        console.print(Text(QUESTION, style="italic"))
        files = [OUT / f"{checkpoint.name}-{name}.gguf" for name in TYPES]
        show(console, [ask(console, file) for file in files])

        console.print("\nChat on:")
        console.print(
            f"  .venv/bin/franken-gguf chat {shown(files[0])}", style="bold", soft_wrap=True
        )
    except (FrankenError, OSError) as error:
        sys.exit(printable(f"Error: {error}"))
    except KeyboardInterrupt:
        print("\nInterrupted; `make demo` goes on from here.", file=sys.stderr)
        sys.exit(130)


def convert(console: Console, checkpoint: Path) -> None:
    """Run `franken-gguf convert` before the user's eyes, ending the demo where it fails."""
    types = [word for name in TYPES for word in ("-q", name)]
    words = ["convert", shown(checkpoint), *types, "-o", shown(OUT), "--overwrite"]
    console.print(f"$ franken-gguf {shlex.join(words)}", style="dim", soft_wrap=True)
    command = str(Path(sys.executable).with_name("franken-gguf"))
    status = subprocess.run([command, *words], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def ask(console: Console, file: Path) -> Answer:
    """The answer of the model in `file`; at a terminal a line counts its tokens as they come."""
    # Without the penalty a model as small as this one goes round in circles at 4 bits.
    sampling = {"temperature": 0, "repeat_penalty": 1.1}
    with (
        console.status(f"loading {file.name}") as status,
        load(file, LoadOptions(n_ctx=1024), sampling=sampling, max_tokens=MAX_TOKENS) as chat,
    ):
        answer = chat.ask(QUESTION)
        for _ in answer:
            count(status, file, answer.generation.tokens)
        generation = answer.generation
        cut = generation.finish != "stop"
        return Answer(file, answer.text.strip(), cut, generation.tokens_per_second)


def count(status: Status, file: Path, tokens: int) -> None:
    """Say how far the answer is."""
    status.update(f"{file.name}: {tokens} of at most {MAX_TOKENS} tokens")


def show(console: Console, answers: list[Answer]) -> None:
    """The answers side by side, or one above the other where the screen is narrow."""
    panels = [panel(answer) for answer in answers]
    if console.width < SIDE_BY_SIDE_COLUMNS:
        console.print(Group(*panels))
        return
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    console.print(grid)


def panel(answer: Answer) -> Panel:
    """One answer under its file's type, over its size and speed."""
    text = answer.text + (" ..." if answer.is_cut else "")
    name = answer.file.stem.rpartition("-")[2]
    figures = f"{size(answer.file.stat().st_size)}, {answer.tokens_per_second:.1f} tokens/s"
    # Printable line by line: the model may say anything, also what would steer the screen.
    body = Text("\n".join(printable(line) for line in text.split("\n")))
    return Panel(body, title=f"[bold]{name}[/]", subtitle=figures, box=box.ROUNDED)


def heading(console: Console, text: str) -> None:
    """The title of a step."""
    console.print()
    console.print(Text(text, style="bold"))


def folder_bytes(folder: Path) -> int:
    """What the files in `folder` take."""
    return sum(file.stat().st_size for file in folder.iterdir())


def shown(path: Path) -> str:
    """`path` as the user would type it, from the project's root."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
