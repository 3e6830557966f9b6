"""What a comparison comes down to, in words: one paragraph, by fixed rules. Pure.

- A rung earns its memory where it is closer to the baseline than the next smaller one that does:
  where its KL divergence is less, and the two 95 % intervals do not overlap. One that finds another
  token the likeliest more often than not does not, whatever its size.
- A lean moved where `Lean.moved` says so. Of all else the paragraph says that it cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from franken_gguf.runner.terminal.text import printable, size

from .document import FEWEST_PARAPHRASES, Comparison, Lean, ModelResult, Prompt, TextScore
from .metrics import Z95, Estimate, Interval


@dataclass(frozen=True)
class Yardstick:
    """The scored tokens that models are ranked by: the text's, or where none was, the answers'."""

    name: str
    is_text: bool

    def score(self, model: ModelResult) -> TextScore | None:
        """What a model scored there."""
        return model.text if self.is_text else model.answers

    def kld(self, model: ModelResult) -> Estimate | None:
        """Its KL divergence from the baseline; None for the baseline, and where it failed."""
        score = self.score(model)
        return score.kld if score else None


def yardstick(comparison: Comparison) -> Yardstick:
    """What the models of a comparison are ranked by."""
    if any(one.text and one.text.kld for one in comparison.models):
        return Yardstick(comparison.settings.text, True)
    return Yardstick(f"{comparison.baseline}'s answers", False)


@dataclass(frozen=True)
class Rung:
    """A model that is smaller than the baseline, and what it is worth."""

    model: ModelResult
    kld: Estimate
    smaller: ModelResult | None = None
    """A smaller one that does as well, so far as can be told."""
    is_closer: bool = False
    """By value it is closer than `smaller`, but the intervals overlap."""
    is_lost: bool = False
    """It finds another token the likeliest more often than not."""

    @property
    def is_worth_it(self) -> bool:
        """Whether to take it where the next larger one does not fit."""
        return self.smaller is None and not self.is_lost


def rungs(comparison: Comparison) -> list[Rung]:
    """The measured models that are smaller than the baseline, largest first."""
    base, by = baseline(comparison), yardstick(comparison)
    found: list[Rung] = []
    best: Rung | None = None
    for one in sorted(comparison.models, key=lambda one: one.nbytes):
        kld = by.kld(one)
        if one is base or kld is None or one.nbytes >= base.nbytes:
            continue
        score = by.score(one)
        if score and score.same_top and score.same_top.high < 0.5:
            found.append(Rung(one, kld, is_lost=True))
        elif best is None or _upper(kld) < _lower(best.kld):
            best = Rung(one, kld)
            found.append(best)
        else:
            found.append(Rung(one, kld, best.model, kld.value < best.kld.value))
    return found[::-1]


def baseline(comparison: Comparison) -> ModelResult:
    """The model that the others are held against."""
    return next(one for one in comparison.models if one.name == comparison.baseline)


def conclusion(comparison: Comparison) -> str:
    """One paragraph: what to take for how much memory, what that loses, where leans move."""
    sentences = (
        *_choice(comparison),
        *_kept(comparison),
        *_routing(comparison),
        *_leans(comparison),
        *_failures(comparison),
    )
    return printable(" ".join(sentences))


def _choice(comparison: Comparison) -> Iterator[str]:
    base, found = baseline(comparison), rungs(comparison)
    if len(comparison.models) == 1:
        yield f"There is only {base.name}, and nothing to hold it against: name a second quant."
        return
    steps = [f"{one.model.name} from {size(one.model.nbytes)}" for one in found if one.is_worth_it]
    if steps:
        first = f"Take {base.name} where {size(base.nbytes)} fit"
        yield f"{_and([first, *steps])}, context not counted."
    for one in found:
        if one.is_lost:
            yield (
                f"{one.model.name} ({size(one.model.nbytes)}) is no substitute: at most positions "
                "it finds another token the likeliest."
            )
    yield from _left_out(base, found)
    larger = [
        one.name
        for one in comparison.models
        if one is not base and one.nbytes >= base.nbytes and yardstick(comparison).kld(one)
    ]
    if larger:
        yield (
            f"No smaller than {base.name}: {_and(larger)}; how far a model is from a smaller one "
            "does not say which of them is better."
        )


def _left_out(base: ModelResult, found: Sequence[Rung]) -> Iterator[str]:
    """What is not worth its size, by the smaller one that does as well."""
    for smaller in dict.fromkeys(one.smaller.name for one in found if one.smaller):
        rest = [one for one in found if one.smaller and one.smaller.name == smaller]
        worse = [one.model.name for one in rest if not one.is_closer]
        untold = [one.model.name for one in rest if one.is_closer]
        if worse:
            yield f"{_and(worse)} {_is(worse)} larger than {smaller} and no closer."
        if untold:
            yield (
                f"Whether {_and(untold)} {_is(untold)} closer to {base.name} than {smaller}, "
                "which is smaller, cannot be told."
            )


def _kept(comparison: Comparison) -> Iterator[str]:
    by = yardstick(comparison)
    said = [
        f"{one.name} at {_percent(score.same_top)} (KL divergence {score.kld.value:.4f})"
        for one in _considered(comparison)
        if (score := by.score(one)) and score.kld and score.same_top
    ]
    if said:
        yield f"On {by.name}, {comparison.baseline}'s likeliest token is also that of {_and(said)}."


def _routing(comparison: Comparison) -> Iterator[str]:
    said = [
        f"{one.name} for {100 * one.routing.same_experts:.1f} %"
        for one in _considered(comparison)
        if one.routing and one.routing.same_experts is not None
    ]
    if said:
        yield (
            f"The same experts as in {comparison.baseline} are chosen by {_and(said)} "
            "of tokens and layers."
        )


def _considered(comparison: Comparison) -> list[ModelResult]:
    """All but those that a smaller one does as well as."""
    left_out = {one.model.name for one in rungs(comparison) if one.smaller}
    return [one for one in comparison.models if one.name not in left_out]


def _leans(comparison: Comparison) -> Iterator[str]:
    base = baseline(comparison)
    for number, prompt in enumerate(comparison.prompts):
        leans = [(one.name, lean) for one in comparison.models if (lean := _lean(one, number))]
        own = _lean(base, number)
        if own is None:
            continue
        others = [(name, lean) for name, lean in leans if lean.difference]
        if len(own.paraphrases) < FEWEST_PARAPHRASES:
            yield (
                f"Where {prompt.name} leans cannot be told from {len(own.paraphrases)} "
                f"{'wording' if len(own.paraphrases) == 1 else 'wordings'}; "
                f"{FEWEST_PARAPHRASES} are needed."
            )
            continue
        moved = [_moved(name, lean, prompt, own) for name, lean in others if lean.moved]
        still = [_still(name, lean) for name, lean in others if not lean.moved]
        clauses = [f"On {prompt.name}, {base.name} {_leaning(own, prompt)}", *moved]
        if still:
            verb = "moves" if len(still) == 1 else "move"
            clauses.append(f"whether {_and(still)} {verb} from there cannot be told")
        yield f"{'; '.join(clauses)}."


def _lean(model: ModelResult, number: int) -> Lean | None:
    result = model.prompts[number] if number < len(model.prompts) else None
    return result.lean if result else None


def _leaning(lean: Lean, prompt: Prompt) -> str:
    side = _side(lean.raw)
    if not side:
        return f"leans to neither side for certain ({_range(lean.raw)} in log-odds)"
    return f"leans to {_label(prompt, side)} ({_range(lean.raw)} in log-odds)"


def _moved(name: str, lean: Lean, prompt: Prompt, own: Lean) -> str:
    assert lean.difference
    by, ends = lean.difference.value, (lean.difference.low, lean.difference.high)
    low, high = sorted(map(abs, ends))
    crossed = _side(lean.raw) == lean.moved != _side(own.raw)
    return (
        f"{name} moves towards {_label(prompt, lean.moved)} by {abs(by):.2f} "
        f"({low:.2f} to {high:.2f})" + (" and leans there" if crossed else "")
    )


def _still(name: str, lean: Lean) -> str:
    assert lean.difference
    if _side(lean.difference):
        return f"{name} ({_range(lean.difference)}, within the noise of {lean.noise:.2f})"
    return f"{name} ({_range(lean.difference)})"


def _failures(comparison: Comparison) -> Iterator[str]:
    for one in comparison.models:
        if one.error:
            is_partly = one.answers or one.text or any(one.prompts)
            how = "not be measured in full" if is_partly else "not be measured"
            yield f"{one.name} could {how}: {one.error.rstrip('. ')}."


def _side(interval: Interval) -> int:
    """1 or -1 where an interval is wholly on one side of 0, else 0."""
    return int(interval.low > 0) - int(interval.high < 0)


def _label(prompt: Prompt, side: int) -> str:
    return f"“{prompt.labels[0 if side > 0 else -1]}”"


def _range(interval: Interval) -> str:
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} %"


def _lower(kld: Estimate) -> float:
    return kld.value - Z95 * kld.error


def _upper(kld: Estimate) -> float:
    return kld.value + Z95 * kld.error


def _is(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def _and(items: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
