"""The parts of the report page, made from a comparison: plots, tables, answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from franken_gguf.runner.compare.results.conclusion import baseline, ranked_models, yardstick
from franken_gguf.runner.compare.results.document import (
    Comparison,
    Lean,
    ModelResult,
    Prompt,
    PromptResult,
    Routing,
)
from franken_gguf.runner.compare.results.figures import figures
from franken_gguf.runner.compare.results.metrics import LayerRouting
from franken_gguf.runner.terminal.text import size

from .plots import Point, drift_plot, heat_map, kld_plot, lean_plot, percents


def verdicts(comparison: Comparison) -> dict[str, str]:
    """Each model's verdict by the conclusion's rules, in a few words, by its name."""
    found = {comparison.baseline: "baseline"}
    for one in ranked_models(comparison):
        if one.is_unlike:
            found[one.model.name] = "not a good substitute"
        elif one.smaller is None:
            found[one.model.name] = "worth its size"
        elif one.is_closer:
            found[one.model.name] = f"not clearly closer than {one.smaller.name}"
        else:
            found[one.model.name] = f"no closer than {one.smaller.name}"
    return found | {one.name: "failed" for one in comparison.models if one.error}


@dataclass(frozen=True)
class KldFigure:
    """KL divergence against size."""

    scored_on: str
    plot: str


def kld_figure(comparison: Comparison) -> KldFigure:
    """On the text, or without one on the answers; the plot is "" if no model can be compared."""
    by, base = yardstick(comparison), baseline(comparison)
    points = [Point(one.name, one.nbytes, kld) for one in comparison.models if (kld := by.kld(one))]
    return KldFigure(by.name, kld_plot(points, base.name, base.nbytes))


@dataclass(frozen=True)
class LeanFigure:
    """The leans of all models on one prompt."""

    number: int
    """The prompt's index."""
    prompt: Prompt
    paraphrases: int
    noise: float
    plot: str


def lean_figures(comparison: Comparison) -> Iterator[LeanFigure]:
    """One figure for each prompt that has a lean."""
    for number, prompt in enumerate(comparison.prompts):
        leans = [(one.name, lean) for one in comparison.models if (lean := _lean(one, number))]
        plot = lean_plot(prompt, leans, comparison.baseline) if leans else ""
        if plot:
            lean = leans[0][1]
            yield LeanFigure(number, prompt, len(lean.paraphrases), lean.noise, plot)


@dataclass(frozen=True)
class RoutingFigure:
    """One model's routers, drawn and as a table."""

    model: str
    routing: Routing
    load: str
    difference: str
    """"" for the baseline, like `drift`."""
    drift: str
    rows: tuple[tuple[str, ...], ...]
    """For each layer its number, same experts, KL divergence, entropy and loads."""


@dataclass(frozen=True)
class RoutingFigures:
    """All models' routers, on one colour scale."""

    most: float
    """The load drawn in full colour."""
    most_difference: float
    models: tuple[RoutingFigure, ...]


def routing_figures(comparison: Comparison) -> RoutingFigures:
    """A figure for every model whose routing was captured."""
    base = baseline(comparison).routing
    captured = [(one.name, one.routing) for one in _baseline_first(comparison) if one.routing]
    differences = [_differences(routing, base) for _, routing in captured]
    most = _largest([layer.load for _, routing in captured for layer in routing.layers])
    most_difference = _largest([values for layers in differences for values in layers])
    return RoutingFigures(
        most,
        most_difference,
        tuple(
            RoutingFigure(
                name,
                routing,
                heat_map([layer.load for layer in routing.layers], most, is_difference=False),
                heat_map(layers, most_difference, is_difference=True),
                drift_plot(routing.layers, routing.drift),
                tuple(map(_layer_row, range(len(routing.layers)), routing.layers)),
            )
            for (name, routing), layers in zip(captured, differences, strict=True)
        ),
    )


def _differences(routing: Routing, base: Routing | None) -> list[list[float]]:
    """Change in load from the baseline by layer and expert; [] if they cannot be compared."""
    if base is None or routing.same_experts is None:
        return []
    return [
        [own - theirs for own, theirs in zip(layer.load, other.load, strict=False)]
        for layer, other in zip(routing.layers, base.layers, strict=False)
    ]


def _largest(rows: Sequence[Sequence[float]]) -> float:
    return max((abs(value) for row in rows for value in row), default=0.0)


def _layer_row(number: int, layer: LayerRouting) -> tuple[str, ...]:
    compared = (
        "" if layer.same_experts is None else f"{100 * layer.same_experts:.1f} %",
        "" if layer.kld is None else f"{layer.kld:.5f}",
    )
    entropy = f"{100 * layer.load_entropy:.1f} %"
    return (str(number), *compared, entropy, percents(layer.load))


@dataclass(frozen=True)
class Answers:
    """A model's answers to one prompt, the greedy one in three pieces."""

    model: str
    is_baseline: bool
    result: PromptResult
    start: str
    """The part that equals the baseline's answer."""
    token: str
    """The first token that differs; "" if none does or the answer ends there."""
    rest: str


def answers(comparison: Comparison, number: int) -> list[Answers]:
    """The answers to a prompt, the baseline's first."""
    base = baseline(comparison)
    return [
        Answers(one.name, one is base, result, *_pieces(result, one is base))
        for one in _baseline_first(comparison)
        if (result := result_of(one, number))
    ]


def _pieces(result: PromptResult, is_baseline: bool) -> tuple[str, str, str]:
    text, found = result.greedy.text, result.greedy.difference
    if found is None:
        return ("", "", text) if is_baseline else (text, "", "")
    start, rest = text[: found.character], text[found.character :]
    token = found.own if rest.startswith(found.own) else ""
    return start, token, rest[len(token) :]


def _baseline_first(comparison: Comparison) -> list[ModelResult]:
    return sorted(comparison.models, key=lambda one: one.name != comparison.baseline)


def result_of(model: ModelResult, number: int) -> PromptResult | None:
    """A model's result for a prompt; None if it could not be measured."""
    return model.prompts[number] if number < len(model.prompts) else None


def _lean(model: ModelResult, number: int) -> Lean | None:
    result = result_of(model, number)
    return result.lean if result else None


@dataclass(frozen=True)
class FigureTable:
    """A section of figures: for each row its label, and the lines of each model's cell."""

    title: str
    about: str
    rows: tuple[tuple[str, tuple[list[str], ...]], ...]


def figure_tables(comparison: Comparison) -> Iterator[FigureTable]:
    """The figures that the terminal shows, without empty rows."""
    for section in figures(comparison):
        rows = [
            (label, tuple(cell(one).split("\n") for one in comparison.models))
            for label, cell in section.rows
        ]
        rows = [(label, cells) for label, cells in rows if any(map(any, cells))]
        if rows:
            yield FigureTable(section.title, section.about, tuple(rows))


def settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """The settings of the comparison, as terms and values."""
    asked = comparison.settings
    yield "baseline", comparison.baseline
    if comparison.prompts:
        yield "answers", f"greedy, at most {asked.max_tokens} tokens"
    if comparison.prompts and asked.samples:
        yield (
            "sampled answers",
            (
                f"{asked.samples} for each prompt at temperature {asked.temperature:g}, "
                f"seeds {asked.seed} to {asked.seed + asked.samples - 1}"
            ),
        )
    if asked.text:
        yield "text", f"{asked.text}, {asked.chunks} chunks of {asked.chunk_tokens} tokens"
    yield "threads", str(asked.threads)
    for one in comparison.models:
        yield one.name, f"{PurePath(one.file).name}, {size(one.nbytes)}"
    yield "generated by", f"franken-gguf {comparison.version}"
