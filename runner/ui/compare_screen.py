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
from franken_gguf.runner.compare.results.figures import Section, figures
from franken_gguf.runner.terminal.text import printable

_NARROW = 80
_LABEL, _NARROW_LABEL = 28, 16
"""Width of the labels in characters, on a terminal of `_NARROW` columns or more, and below."""
_CELL = 17
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
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("starting", total=1, left="")
        state = _State(count)

        def begins(candidate: Candidate, parts: Sequence[str]) -> None:
            state.begins(candidate, parts)
            progress.update(task, description=state.title, completed=0, total=max(1, len(parts)))

        def advances(step: measure_job.Progress) -> None:
            description, completed = state.advances(step)
            left = state.left(progress.get_time())
            progress.update(task, description=description, completed=completed, left=left)

        def estimates(seconds: float) -> None:
            state.estimates(seconds, progress.get_time())
            _notice(progress.console, at_most(seconds))

        def notice(text: str) -> None:
            _notice(progress.console, text)

        yield Listener(begins, advances, estimates, notice)


@contextmanager
def _lines(console: Console, count: int) -> Iterator[Listener]:
    state = _State(count)

    def begins(candidate: Candidate, parts: Sequence[str]) -> None:
        state.begins(candidate, parts)
        status = "measuring" if parts else "already measured"
        _notice(console, f"{state.title}: {status}")

    def estimates(seconds: float) -> None:
        _notice(console, at_most(seconds))

    yield Listener(begins, lambda _: None, estimates, lambda text: _notice(console, text))


def at_most(seconds: float) -> str:
    """The time estimate in words."""
    return f"this takes at most about {_duration(seconds)}, less if answers end early"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{round(minutes / 60)} hours"


class _State:
    """Which model is being measured, and how much of it is done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0
        self._parts: Sequence[str] = ()
        self._estimate = self._started = self._share = 0.0
        self._first = 0
        """Number of the model that was being measured when the estimate was made."""
        self.title = ""

    def begins(self, candidate: Candidate, parts: Sequence[str]) -> None:
        """Go to the next model."""
        self._number += 1
        self._parts, self._share = parts, 0.0
        self.title = f"{self._number} of {self._count}  {candidate.name}"

    def advances(self, step: measure_job.Progress) -> tuple[str, float]:
        """A description, and the number of parts that are done."""
        if step.part not in self._parts:
            return f"{self.title}  loading", 0.0
        description = f"{self.title}  {measure_job.description(step.part)}"
        completed = self._parts.index(step.part) + step.done
        self._share = completed / len(self._parts)
        return description, completed

    def estimates(self, seconds: float, now: float) -> None:
        """Begin to count the time left from an estimate."""
        self._estimate, self._started, self._first = seconds, now, self._number

    def left(self, now: float) -> str:
        """The time left: by the estimate, and by the time that was needed once a model is done."""
        if not self._estimate:
            return ""
        elapsed = now - self._started
        done = self._number - self._first + self._share
        total = elapsed * (self._count - self._first + 1) / done if done > 1 else self._estimate
        return f"about {_duration(total - elapsed)} left"


def _notice(console: Console, line: str) -> None:
    console.print(printable(line), style="dim", markup=False, soft_wrap=True)


def show(console: Console, comparison: Comparison) -> None:
    """Print the figures with the models side by side, the answers, and the conclusion."""
    for models in _groups(comparison, console.width):
        for section in figures(comparison):
            _show_section(console, section, models)
    for number in range(len(comparison.prompts)):
        _show_answers(console, comparison, number)
    console.print(Text(printable(comparison.conclusion)))


def _groups(comparison: Comparison, width: int) -> Iterator[list[ModelResult]]:
    """Groups of models that fit side by side, each beginning with the baseline."""
    base = [one for one in comparison.models if one.name == comparison.baseline]
    others = [one for one in comparison.models if one.name != comparison.baseline]
    label = _NARROW_LABEL if width < _NARROW else _LABEL
    most = max(1, (width - label) // _CELL - 1)
    for start in range(0, max(1, len(others)), most):
        yield base + others[start : start + most]


def _show_section(console: Console, section: Section, models: Sequence[ModelResult]) -> None:
    """Print a section's title, its sentence, and its rows if it has any."""
    rows = [(label, [cell(one) for one in models]) for label, cell in section.rows]
    rows = [(label, cells) for label, cells in rows if any(cells)]
    if not rows:
        return
    console.print(Text(printable(section.title), "bold"))
    console.print(Text(printable(section.about)))
    label_width, gap = (_NARROW_LABEL, 1) if console.width < _NARROW else (_LABEL, 2)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("", overflow="fold", width=label_width - gap)
    for one in models:
        table.add_column(Text(one.name), justify="right", overflow="fold", width=_CELL - gap)
    for label, cells in rows:
        table.add_row(Text(f" {label}"), *map(_cell, cells))
    console.print(table, Text())


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
