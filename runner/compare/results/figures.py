"""A comparison's figures as text: sections of rows with a cell for each model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from franken_gguf.runner.terminal.text import printable, size

from .document import FEWEST_SAMPLES, Comparison, Lean, ModelResult, Prompt, PromptResult, TextScore
from .metrics import Estimate, Interval
from .preference import Preference

Cell = Callable[[ModelResult], str]
"""Formats a model's figure; "" if it has none. An interval has a line of its own."""


@dataclass(frozen=True)
class Section:
    """Rows of figures under a title."""

    title: str
    about: str
    """What they are, in one sentence."""
    rows: tuple[tuple[str, Cell], ...]


def figures(comparison: Comparison) -> Iterator[Section]:
    """All sections; rows and sections can be empty."""
    yield Section(
        "file",
        "The files compared; fewer bits per weight need less memory.",
        (
            ("size", lambda one: size(one.nbytes)),
            ("bits per weight", lambda one: f"{one.bits_per_weight:.2f}"),
            ("error", lambda one: one.error),
        ),
    )
    settings = comparison.settings
    if settings.text:
        yield _scores(
            f"{settings.text}, {settings.chunks} chunks",
            f"How far each model's predictions of this text are from {comparison.baseline}'s; "
            "a KL divergence of 0 means the same predictions.",
            lambda one: one.text,
        )
    if comparison.prompts:
        name = f"{comparison.baseline}'s answers"
        yield _scores(
            name,
            f"How far each model's predictions are from {comparison.baseline}'s at every token of "
            "its greedy answers.",
            lambda one: one.answers,
        )
    for number, prompt in enumerate(comparison.prompts):
        yield _prompt(comparison, prompt, number)
    if comparison.preferences:
        yield _choices_between(comparison)
    yield _routing(comparison)
    yield _machine()


def _scores(title: str, about: str, score: Callable[[ModelResult], TextScore | None]) -> Section:
    def cell(text: Callable[[TextScore], str]) -> Cell:
        return lambda one: text(found) if (found := score(one)) else ""

    return Section(
        title,
        about,
        (
            ("perplexity", cell(lambda found: _estimate(found.ppl, ".3f"))),
            ("KL divergence", cell(lambda found: _estimate(found.kld, ".5f"))),
            ("  99th percentile", cell(lambda found: _percentile(found, "99"))),
            ("same top token", cell(lambda found: _share(found.same_top))),
            ("RMS Δp", cell(lambda found: _percent(found.dp_rms))),
        ),
    )


def _prompt(comparison: Comparison, prompt: Prompt, number: int) -> Section:
    def cell(text: Callable[[PromptResult], str]) -> Cell:
        return lambda one: text(found) if (found := _result(one, number)) else ""

    first, second = prompt.labels or ("", "")
    sides = f": + is {first}, - is {second}" if prompt.labels else ""
    return Section(
        prompt.name + sides,
        _about(comparison, prompt),
        (
            ("lean (log-odds)", cell(lambda found: _lean(found.lean))),
            ("  per token", cell(lambda found: _lean(found.lean, per_token=True))),
            (
                f"  change from {comparison.baseline}",
                cell(lambda found: _moved(prompt, found.lean)),
            ),
            ("sampled answers", cell(lambda found: _choices(prompt, found))),
            ("5-7-5", cell(_valid)),
            ("distinct 1/2/3-grams", cell(_distinct)),
            ("repeated 4-grams", cell(_repetition)),
            (
                "unique words/1,000",
                cell(lambda found: f"{found.variety.vocabulary:.0f}" if found.variety else ""),
            ),
        ),
    )


def _about(comparison: Comparison, prompt: Prompt) -> str:
    samples = comparison.settings.samples
    drawn = f"{samples} sampled answer{'' if samples == 1 else 's'}"
    if prompt.labels:
        asked = f"over {prompt.wordings} wordings"
        sampled = f", and how many of its {drawn} choose the first" if samples else ""
        return f"Which of the two each model leans to {asked}{sampled}."
    return f"How varied the words of its {drawn} are: 1.0 means that no word or n-gram repeats."


def _result(model: ModelResult, number: int) -> PromptResult | None:
    return model.prompts[number] if number < len(model.prompts) else None


def _choices_between(comparison: Comparison) -> Section:
    def cell(other: str) -> Cell:
        def text(one: ModelResult) -> str:
            found = next((p for p in comparison.preferences if p.is_of(one.name, other)), None)
            return _preferred(found.seen_from(one.name)) if found else ""

        return text

    named = {name for one in comparison.preferences for name in (one.first, one.second)}
    return Section(
        "blind choices",
        "How often a model's answer was preferred to another's by someone who did not know which "
        "model wrote it; the share leaves out choices of neither.",
        tuple(
            (f"preferred to {one.name}", cell(one.name))
            for one in comparison.models
            if one.name in named
        ),
    )


def _preferred(found: Preference) -> str:
    share, equal = found.share, f", {found.equal} equal" if found.equal else ""
    return (
        f"{found.first_chosen} of {found.decided}{equal}\n"
        f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
    )


def _routing(comparison: Comparison) -> Section:
    has_experts = any(one.experts for one in comparison.models)

    def agreement(one: ModelResult) -> str:
        if not one.experts:
            return "dense" if has_experts else ""
        return _percent(one.routing.same_experts) if one.routing else ""

    return Section(
        "routing",
        f"How often the router sends a token to the same experts as {comparison.baseline}'s; "
        "an entropy of 100 % means that all experts process equally many tokens.",
        (
            ("same experts", agreement),
            ("Jaccard", lambda one: _percent(one.routing.jaccard if one.routing else None)),
            ("KL divergence", lambda one: _number(one.routing.kld if one.routing else None, ".5f")),
            (
                "most changed layers",
                lambda one: " ".join(map(str, one.routing.drift)) if one.routing else "",
            ),
            (
                "entropy of the load",
                lambda one: _percent(one.routing.load_entropy if one.routing else None),
            ),
            *(
                (f"load of {printable(name)}", _load(number))
                for number, name in enumerate(comparison.expert_names)
            ),
        ),
    )


def _load(expert: int) -> Cell:
    """An expert's share of the router's choices, averaged over the layers."""

    def cell(one: ModelResult) -> str:
        layers = one.routing.layers if one.routing else ()
        loads = [layer.load[expert] for layer in layers if expert < len(layer.load)]
        return _percent(sum(loads) / len(loads)) if loads else ""

    return cell


def _machine() -> Section:
    return Section(
        "this machine",
        "Speed and memory here, one answer at a time; they differ from run to run.",
        (
            ("load time", lambda one: f"{one.machine.load_seconds:.1f} s" if one.machine else ""),
            (
                "prompt tokens/s",
                lambda one: f"{one.machine.prompt_tokens_per_second:.0f}" if one.machine else "",
            ),
            (
                "tokens/s",
                lambda one: f"{one.machine.tokens_per_second:.1f}" if one.machine else "",
            ),
            ("peak memory", lambda one: size(one.machine.peak_memory) if one.machine else ""),
        ),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _estimate(found: Estimate | None, form: str) -> str:
    return "" if found is None else f"{found.value:{form}}\n± {found.error:{form}}"


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found.value:+.2f}\n{found.low:+.2f} to {found.high:+.2f}"


def _share(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{100 * found.value:.1f} %\n{100 * found.low:.0f} to {100 * found.high:.0f}"


def _percentile(found: TextScore, percentile: str) -> str:
    return _number(found.kld_percentiles.get(percentile), ".4f")


def _lean(lean: Lean | None, *, per_token: bool = False) -> str:
    if lean is None:
        return ""
    return _interval(lean.per_token if per_token else lean.raw)


def _moved(prompt: Prompt, lean: Lean | None) -> str:
    if lean is None or lean.difference is None:
        return ""
    first, second = map(printable, prompt.labels)  # a line end would begin another line of the cell
    towards = {0: "inconclusive", 1: f"towards {first}", -1: f"towards {second}"}
    return f"{_interval(lean.difference)}\n{towards[lean.moved]}"


def _choices(prompt: Prompt, found: PromptResult) -> str:
    if found.choices is None:
        return ""
    share, count = found.choices.share, len(found.samples)
    counted = f"{found.choices.first} of {count} {printable(prompt.labels[0])}"
    if count < FEWEST_SAMPLES:
        return counted
    return f"{counted}\n{100 * share.low:.0f} to {100 * share.high:.0f} %"


def _valid(found: PromptResult) -> str:
    if found.haiku is None:
        return ""
    count = len(found.samples)
    if count < FEWEST_SAMPLES:
        return f"{round(found.haiku.valid.value * count)} of {count}"
    return _share(found.haiku.valid)


def _repetition(found: PromptResult) -> str:
    return _percent(found.variety.repetition) if found.variety else ""


def _distinct(found: PromptResult) -> str:
    if found.variety is None:
        return ""
    shares = found.variety.distinct_1, found.variety.distinct_2, found.variety.distinct_3
    return " ".join(f".{round(100 * share):02}" if share < 0.995 else "1.0" for share in shares)
