"""Run the commands whose output README.md and docs/ show, and write that output there.

    <!-- output -->
        $ franken-gguf plan my-4x7b-Q4_0.gguf --vram 8GiB --ram 16GiB
        ... what it prints, indented by four spaces
    <!-- /output -->

`<!-- output 16 lines -->` shows that many and a line of three dots. The commands run at a width of
WIDTH in a temporary folder with the files that they name: complete GGUF headers over holes, since
the commands that are shown read nothing else.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import chdir
from pathlib import Path

from click.testing import CliRunner
from make_dense_model import dense_checkpoint

from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.tensor_types.type_presets import Type, find_preset
from franken_gguf.runner.cli import main as franken_gguf
from franken_gguf.runner.ui.convert_screen import size_and_types
from support.shapes import MIXTRAL_4X7B, sparse_model

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/demo.md", "docs/plan.md")
TYPES = ("F16", "Q8_0", "Q4_K_M")
MIXED = (Type.IQ3_XXS, Type.IQ4_XS)
WIDTH = "100"
BLOCK = re.compile(
    r"(<!-- output(?: (\d+) lines)? -->\n)    \$ franken-gguf (.*)\n(?:.*\n)*?(<!-- /output -->)"
)


def main() -> None:
    """Rewrite every page whose output has changed."""
    for name in PAGES:
        path = ROOT / name
        path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")


def refreshed(text: str) -> str:
    """A page with the output of its commands as it is now."""
    with _example_files():
        return BLOCK.sub(lambda match: f"{match[1]}{_block(match[3], match[2])}{match[4]}", text)


def _block(command: str, most: str | None) -> str:
    result = CliRunner().invoke(
        franken_gguf, shlex.split(command), env={"COLUMNS": WIDTH}, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    printed = result.stdout.splitlines()
    if most:
        printed = [*printed[: int(most)], "..."]
    lines = [f"$ franken-gguf {command}", *printed]
    return "".join(f"    {line.rstrip()}".rstrip() + "\n" for line in lines)


@contextmanager
def _example_files() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for output in _outputs():
            (shard,) = output.shards
            path = Path(folder, shard.path)
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(shard.header)
                file.truncate(shard.nbytes)
        sparse_model(Path(folder, "my-4x7b-Q4_0.gguf"), **MIXTRAL_4X7B)
        mixed = Path(folder, "my-4x7b-3.80bpw.gguf")
        sparse_model(mixed, kind=Type.Q5_K, expert_kinds=MIXED, **MIXTRAL_4X7B)
        chdir(folder)
        try:
            yield
        finally:
            chdir(before)


def planned_lines() -> set[str]:
    """The lines of sizes and types that `convert` prints for the demo's quants."""
    return {size_and_types(output) for output in _outputs()}


@cache
def _outputs() -> list[Output]:
    """The files of `make demo`, as the recipe plans them."""
    dense_checkpoint()
    source = open_source(ROOT / "examples" / "storytellers.yml")
    return [
        plan_output(source, Path("demo", f"storytellers-{name}.gguf"), find_preset(name))
        for name in TYPES
    ]


if __name__ == "__main__":
    main()
