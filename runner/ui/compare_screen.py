"""The screen of `franken-gguf compare`: progress, then figures, answers and the conclusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.compare.candidates import Candidate
from franken_gguf.runner.compare.compare import Listener
from franken_gguf.runner.compare.measure import measure_job
from franken_gguf.runner.compare.results.document import Comparison, GreedyAnswer, ModelResult
from franken_gguf.runner.compare.results.figures import figures
from franken_gguf.runner.terminal.text import printable

_NARROW = 80
_CELL = 15
"""Width of a model's column in characters."""
_SHOWN_BEFORE = 40
_SHOWN_AFTER = 240
"""Characters of an answer shown before and after its first difference from the baseline's."""


@contextmanager
def watching(console: Console, count: int) -> Iterator[Listener]:
    """Show the progress through `count` models until the end of the `with` block."""
    show = _bar if console.is_terminal else _lines
    with show(console, count) as listener:
        yield listener


@contextmanager
def _bar(console: Console, count: int) -> Iterator[Listener]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("starting", total=1)
        state = _State(count)

        def begins(candidate: Candidate, parts: Sequence[str]) -> None:
            state.begins(candidate, parts)
            progress.update(task, description=state.title, completed=0, total=max(1, len(parts)))

        def advances(step: measure_job.Progress) -> None:
            description, completed = state.advances(step)
            progress.update(task, description=description, completed=completed)

        yield Listener(begins, advances, lambda text: _notice(progress.console, text))


@contextmanager
def _lines(console: Console, count: int) -> Iterator[Listener]:
    state = _State(count)

    def begins(candidate: Candidate, parts: Sequence[str]) -> None:
        state.begins(candidate, parts)
        status = "measuring" if parts else "already measured"
        _notice(console, f"{state.title}: {status}")

    yield Listener(begins, lambda _: None, lambda text: _notice(console, text))


class _State:
    """Which model is being measured, and how much of it is done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0
        self._parts: Sequence[str] = ()
        self.title = ""

    def begins(self, candidate: Candidate, parts: Sequence[str]) -> None:
        """Go to the next model."""
        self._number += 1
        self._parts = parts
        self.title = f"{self._number} of {self._count}  {candidate.name}"

    def advances(self, step: measure_job.Progress) -> tuple[str, float]:
        """A description, and the number of parts that are done."""
        if step.part not in self._parts:
            return f"{self.title}  loading", 0.0
        description = f"{self.title}  {measure_job.description(step.part)}"
        return description, self._parts.index(step.part) + step.done


def _notice(console: Console, line: str) -> None:
    console.print(printable(line), style="dim", markup=False, soft_wrap=True)


def show(console: Console, comparison: Comparison) -> None:
    """Print the figures with the models side by side, the answers, and the conclusion."""
    for models in _groups(comparison, console.width):
        console.print(_table(comparison, models, console.width), Text())
    for number in range(len(comparison.prompts)):
        _show_answers(console, comparison, number)
    console.print(Text(printable(comparison.conclusion)))


def _groups(comparison: Comparison, width: int) -> Iterator[list[ModelResult]]:
    """Groups of models that fit side by side, each beginning with the baseline."""
    base = [one for one in comparison.models if one.name == comparison.baseline]
    others = [one for one in comparison.models if one.name != comparison.baseline]
    label = 16 if width < _NARROW else 28
    most = max(1, (width - label) // _CELL - 1)
    for start in range(0, max(1, len(others)), most):
        yield base + others[start : start + most]


def _table(comparison: Comparison, models: Sequence[ModelResult], width: int) -> Table:
    gap = 1 if width < _NARROW else 2
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("", overflow="fold")
    for one in models:
        table.add_column(Text(one.name), justify="right", overflow="fold")
    for section in figures(comparison):
        rows = [(label, [cell(one) for one in models]) for label, cell in section.rows]
        rows = [(label, cells) for label, cells in rows if any(cells)]
        if rows:
            table.add_row(Text(printable(section.title), "bold"))
        for label, cells in rows:
            table.add_row(Text(f" {label}"), *(_cell(cell) for cell in cells))
        if rows:
            table.add_section()
    return table


def _cell(text: str) -> Text:
    first, *rest = (printable(line) for line in text.split("\n"))
    return Text.assemble(first, *((f"\n{line}", "dim") for line in rest))


def _show_answers(console: Console, comparison: Comparison, number: int) -> None:
    """Print the answers to one prompt, the baseline's first, the others' from where they differ."""
    prompt = comparison.prompts[number]
    console.print(Text.assemble((f"{printable(prompt.name)}  ", "bold"), printable(prompt.text)))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    base = [one for one in comparison.models if one.name == comparison.baseline]
    for one in base + [one for one in comparison.models if one not in base]:
        result = one.prompts[number] if number < len(one.prompts) else None
        if result:
            shown = _answer(result.greedy, comparison.baseline, is_baseline=one in base)
            grid.add_row(Text(one.name), shown)
    console.print(grid, Text())


def _answer(greedy: GreedyAnswer, baseline: str, *, is_baseline: bool) -> Text:
    text, difference = " ".join(greedy.text.split()), greedy.difference
    if is_baseline:
        return Text(_clipped(printable(text)))
    if difference is None:
        return Text("identical", "dim")
    before = " ".join(greedy.text[: difference.character].split())
    own = _token(difference.own, difference.own_probability, baseline)
    theirs = _token(difference.baseline, difference.baseline_probability, baseline)
    tokens = "1 token" if difference.token == 1 else f"{difference.token} tokens"
    start = f"differs after {tokens}: {own} instead of {theirs}: "
    shown = before[-_SHOWN_BEFORE:]
    rest = " ".join(greedy.text[difference.character :].split())
    return Text.assemble(
        (start, "yellow"),
        (f"...{printable(shown)}" if len(shown) < len(before) else printable(shown), "dim"),
        _clipped(" " + printable(rest)),
    )


def _token(token: str, probabilities: tuple[float, float], baseline: str) -> str:
    """A token with its probability, and the baseline's for it."""
    own, theirs = probabilities
    name = repr(printable(token)) if token else "the end"
    return f"{name} {own:.2f} ({baseline} {theirs:.2f})"


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN_AFTER else f"{text[:_SHOWN_AFTER]}..."
