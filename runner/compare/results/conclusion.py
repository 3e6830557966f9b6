"""A comparison's conclusion: one paragraph, written by fixed rules. Pure.

- A model is worth its size if it is closer to the baseline than the next smaller one that is: its
  KL divergence is smaller and the two 95 % intervals do not overlap. Of models whose sizes differ
  by less than 0.5 %, the one with the smallest KL divergence comes first. A model whose top token
  differs from the baseline's at more than half of the positions is not worth its size.
- A lean has moved if `Lean.moved` is not 0; any other difference is called inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from franken_gguf.runner.terminal.text import printable, size

from .document import FEWEST_PARAPHRASES, Comparison, Lean, ModelResult, Prompt, TextScore
from .metrics import Z95, Estimate, Interval
from .preference import sentence

_SAME_SIZE = 0.005


@dataclass(frozen=True)
class Yardstick:
    """The scored tokens that rank the models: the text's, or without a text the answers'."""

    name: str
    is_text: bool

    def score(self, model: ModelResult) -> TextScore | None:
        """A model's score on these tokens."""
        return model.text if self.is_text else model.answers

    def kld(self, model: ModelResult) -> Estimate | None:
        """Its KL divergence from the baseline; None for the baseline and a failed model."""
        score = self.score(model)
        return score.kld if score else None


def yardstick(comparison: Comparison) -> Yardstick:
    """The tokens that rank the models of a comparison."""
    if any(one.text and one.text.kld for one in comparison.models):
        return Yardstick(comparison.settings.text, True)
    return Yardstick(f"{comparison.baseline}'s answers", False)


@dataclass(frozen=True)
class RankedModel:
    """A model smaller than the baseline, with its verdict."""

    model: ModelResult
    kld: Estimate
    smaller: ModelResult | None = None
    """A smaller model that is as close to the baseline, within the intervals."""
    is_closer: bool = False
    """Its KL divergence is below that of `smaller`, but the intervals overlap."""
    is_unlike: bool = False
    """Its top token differs from the baseline's at more than half of the positions."""

    @property
    def is_worth_it(self) -> bool:
        """Whether to choose it when the next larger one does not fit."""
        return self.smaller is None and not self.is_unlike


def ranked_models(comparison: Comparison) -> list[RankedModel]:
    """The measured models that are smaller than the baseline, largest first."""
    base, by = baseline(comparison), yardstick(comparison)
    ranked: list[RankedModel] = []
    best: RankedModel | None = None
    measured = [
        (model, kld)
        for model in comparison.models
        if model is not base and model.nbytes < base.nbytes and (kld := by.kld(model))
    ]
    for model, kld in _by_size(measured):
        score = by.score(model)
        if score and score.same_top and score.same_top.high < 0.5:
            ranked.append(RankedModel(model, kld, is_unlike=True))
        elif best is None or _upper(kld) < _lower(best.kld):
            best = RankedModel(model, kld)
            ranked.append(best)
        else:
            ranked.append(RankedModel(model, kld, best.model, kld.value < best.kld.value))
    return ranked[::-1]


def _by_size(models: list[tuple[ModelResult, Estimate]]) -> list[tuple[ModelResult, Estimate]]:
    """Smallest first; of those with about the same size the closest to the baseline first."""
    found: list[list[tuple[ModelResult, Estimate]]] = []
    for model, kld in sorted(models, key=lambda one: one[0].nbytes):
        if found and model.nbytes < (1 + _SAME_SIZE) * found[-1][0][0].nbytes:
            found[-1].append((model, kld))
        else:
            found.append([(model, kld)])
    return [one for group in found for one in sorted(group, key=lambda one: one[1].value)]


def baseline(comparison: Comparison) -> ModelResult:
    """The model that the others are compared with."""
    return next(one for one in comparison.models if one.name == comparison.baseline)


def conclusion(comparison: Comparison) -> str:
    """One paragraph: which model for how much memory, what that loses, which leans moved."""
    sentences = (
        *_choice(comparison),
        *_top_tokens(comparison),
        *_routing(comparison),
        *_leans(comparison),
        *map(sentence, comparison.preferences),
        *_failures(comparison),
    )
    return printable(" ".join(sentences))


def _choice(comparison: Comparison) -> Iterator[str]:
    base, ranked = baseline(comparison), ranked_models(comparison)
    if len(comparison.models) == 1:
        yield f"Only {base.name} was measured; give a second model to compare it with."
        return
    worth_it = [one.model for one in ranked if one.is_worth_it]
    if worth_it:
        smaller = [f"{one.name} if you have {size(one.nbytes)}" for one in worth_it]
        first = f"Take {base.name} if you have {size(base.nbytes)} for the weights"
        yield f"{_and([first, *smaller])}."
    for one in ranked:
        if one.is_unlike:
            yield (
                f"{one.model.name} ({size(one.model.nbytes)}) is not a good substitute: its top "
                f"token differs from {base.name}'s at most positions."
            )
    yield from _left_out(base, ranked)
    larger = [
        one.name
        for one in comparison.models
        if one is not base and one.nbytes >= base.nbytes and yardstick(comparison).kld(one)
    ]
    if larger:
        yield (
            f"{_and(larger)} {_is(larger)} not smaller than {base.name}; the distance from a "
            "smaller model does not show which is better."
        )


def _left_out(base: ModelResult, ranked: Sequence[RankedModel]) -> Iterator[str]:
    """Models not worth their size, grouped by the smaller one that is as close."""
    for smaller in dict.fromkeys(one.smaller.name for one in ranked if one.smaller):
        rest = [one for one in ranked if one.smaller and one.smaller.name == smaller]
        worse = [one.model.name for one in rest if not one.is_closer]
        unclear = [one.model.name for one in rest if one.is_closer]
        if worse:
            size = f"{_and(worse)} {_is(worse)} no smaller than {smaller}"
            yield f"{size} and no closer to {base.name}."
        if unclear:
            size = f"{_and(unclear)} {_is(unclear)} no smaller than {smaller}"
            yield f"{size} but not clearly closer to {base.name}: the intervals overlap."


def _top_tokens(comparison: Comparison) -> Iterator[str]:
    by = yardstick(comparison)
    shares = [
        f"{_percent(score.same_top)} of positions with {one.name} "
        f"(KL divergence {score.kld.value:.4f})"
        for one in _considered(comparison)
        if (score := by.score(one)) and score.kld and score.same_top
    ]
    if shares:
        yield (
            f"On {by.name}, the top token is the same as {comparison.baseline}'s at {_and(shares)}."
        )


def _routing(comparison: Comparison) -> Iterator[str]:
    shares = [
        f"{100 * one.routing.same_experts:.1f} % with {one.name}"
        for one in _considered(comparison)
        if one.routing and one.routing.same_experts is not None
    ]
    if shares:
        yield (
            f"The router chooses the same experts as {comparison.baseline}'s for {_and(shares)}, "
            "over all tokens and layers."
        )


def _considered(comparison: Comparison) -> list[ModelResult]:
    """All models except those that a smaller one is as close as."""
    left_out = {one.model.name for one in ranked_models(comparison) if one.smaller}
    return [one for one in comparison.models if one.name not in left_out]


def _leans(comparison: Comparison) -> Iterator[str]:
    base = baseline(comparison)
    for number, prompt in enumerate(comparison.prompts):
        leans = [(one.name, lean) for one in comparison.models if (lean := _lean(one, number))]
        own = _lean(base, number)
        if own is None:
            continue
        others = [(name, lean) for name, lean in leans if lean.difference]
        count = len(own.paraphrases)
        if count < FEWEST_PARAPHRASES:
            wordings = "1 wording is" if count == 1 else f"{count} wordings are"
            yield (
                f"{wordings} too few to compare leans on {prompt.name}; "
                f"write at least {FEWEST_PARAPHRASES}."
            )
            continue
        moved = [_moved(name, lean, prompt, own) for name, lean in others if lean.moved]
        unclear = [_unclear(name, lean) for name, lean in others if not lean.moved]
        clauses = [f"On {prompt.name}, {base.name} {_leaning(own, prompt)}", *moved]
        if unclear:
            clauses.append(f"inconclusive for {_and(unclear)}")
        yield f"{'; '.join(clauses)}."


def _lean(model: ModelResult, number: int) -> Lean | None:
    result = model.prompts[number] if number < len(model.prompts) else None
    return result.lean if result else None


def _leaning(lean: Lean, prompt: Prompt) -> str:
    side = _side(lean.raw)
    if not side:
        return f"leans clearly to neither side (log-odds {_range(lean.raw)})"
    return f"leans towards {_label(prompt, side)} (log-odds {_range(lean.raw)})"


def _moved(name: str, lean: Lean, prompt: Prompt, own: Lean) -> str:
    assert lean.difference
    by, ends = lean.difference.value, (lean.difference.low, lean.difference.high)
    low, high = sorted(map(abs, ends))
    crossed = _side(lean.raw) == lean.moved != _side(own.raw)
    return (
        f"{name} moves towards {_label(prompt, lean.moved)} by {abs(by):.2f} "
        f"({low:.2f} to {high:.2f})" + (", and now leans that way" if crossed else "")
    )


def _unclear(name: str, lean: Lean) -> str:
    assert lean.difference
    if _side(lean.difference):
        return f"{name} ({_range(lean.difference)}, within the noise of {lean.noise:.2f})"
    return f"{name} ({_range(lean.difference)})"


def _failures(comparison: Comparison) -> Iterator[str]:
    for one in comparison.models:
        if one.error:
            is_partly = one.answers or one.text or any(one.prompts)
            how = "only be measured in part" if is_partly else "not be measured"
            yield f"{one.name} could {how}: {one.error.rstrip('. ')}."


def _side(interval: Interval) -> int:
    """1 or -1 if the whole interval lies on one side of 0, else 0."""
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
    """Join as in "one, two and three"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
