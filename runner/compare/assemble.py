"""From raw measurements to a model's results: differences, intervals, counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.model_summary import Summary
from franken_gguf.runner.compare.measure.questions import HAIKU, Question
from franken_gguf.runner.compare.measure.raw_measurements import (
    Measured,
    MeasuredPrompt,
    MeasuredScores,
    Speed,
)
from franken_gguf.runner.compare.results.document import (
    Choices,
    FirstDifference,
    GreedyAnswer,
    Haiku,
    Lean,
    Machine,
    ModelResult,
    PromptResult,
    Routing,
    SampledAnswer,
    TextScore,
    Variety,
)
from franken_gguf.runner.compare.results.haiku import is_haiku, syllables
from franken_gguf.runner.compare.results.metrics import (
    LayerRouting,
    bootstrap,
    compare_text,
    distinct_n,
    perplexity,
    repetition,
    vocabulary_size,
    wilson,
)

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # noqa: RUF001 - an apostrophe as books have it
_DRIFT = 3
"""Number of layers listed as the most changed."""


def assemble(
    name: str,
    summary: Summary,
    questions: Sequence[Question],
    measured: Measured,
    baseline: Measured | None,
) -> ModelResult:
    """A model's result; `baseline` is None for the baseline itself."""
    differences = measured.answers.differences if measured.answers else [None] * len(questions)
    base_prompts = baseline.prompts if baseline else measured.prompts
    prompts = [
        _prompt(question, one, base, difference, is_baseline=baseline is None)
        if one and base
        else None
        for question, one, base, difference in zip(
            questions, measured.prompts, base_prompts, differences, strict=True
        )
    ]
    answers = measured.answers.scores if measured.answers else None
    base_answers = baseline.answers.scores if baseline and baseline.answers else None
    scored = [scores for scores in (answers, measured.text) if scores]
    return ModelResult(
        name=name,
        file=summary.file,
        nbytes=summary.file_bytes,
        bits_per_weight=summary.bits_per_weight,
        experts=summary.experts,
        experts_used=summary.experts_used,
        prompts=tuple(prompts),
        answers=_score(answers, base_answers),
        text=_score(measured.text, baseline.text if baseline else None),
        routing=_routing(scored),
        machine=_machine(measured, scored),
        error=measured.error,
    )


def _prompt(
    question: Question,
    measured: MeasuredPrompt,
    base: MeasuredPrompt,
    difference: FirstDifference | None,
    *,
    is_baseline: bool,
) -> PromptResult:
    texts = [text for _, text, _ in measured.samples]
    samples = tuple(
        SampledAnswer(seed, text, (0 if lean > 0 else 1) if question.answers else None)
        for seed, text, lean in measured.samples
    )
    first = sum(sample.choice == 0 for sample in samples)
    return PromptResult(
        greedy=GreedyAnswer(measured.text, len(measured.tokens), measured.is_cut, difference),
        samples=samples,
        lean=_lean(measured, base, is_baseline) if question.answers else None,
        choices=Choices(first, wilson(first, len(samples)))
        if question.answers and samples
        else None,
        variety=variety(texts) if not question.answers and samples else None,
        haiku=haiku(texts) if question.measure == HAIKU and samples else None,
    )


def _lean(measured: MeasuredPrompt, base: MeasuredPrompt, is_baseline: bool) -> Lean:
    raw, per_token = _means(measured.raw), _means(measured.per_token)
    both = [orders for orders in measured.raw if len(orders) == 2]
    noise = float(np.abs(_means(base.raw_again) - _means(base.raw)).mean())
    return Lean(
        raw=bootstrap(raw),
        per_token=bootstrap(per_token),
        order_effect=float(np.mean([one - other for one, other in both])) if both else 0.0,
        paraphrases=tuple(raw.tolist()),
        difference=None if is_baseline else bootstrap(raw - _means(base.raw)),
        per_token_difference=None if is_baseline else bootstrap(per_token - _means(base.per_token)),
        noise=noise,
    )


def _means(paraphrases: list[list[float]]) -> NDArray[np.float64]:
    """The mean over the orders of each paraphrase."""
    return np.array([np.mean(orders) for orders in paraphrases])


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.lower())


def variety(texts: Sequence[str]) -> Variety:
    """The variety of words over all texts together."""
    each = [words(text) for text in texts]
    together = [word for some in each for word in some]
    one, two, three = (distinct_n(together, n) for n in (1, 2, 3))
    return Variety(len(together), one, two, three, repetition(each), vocabulary_size(together))


def haiku(texts: Sequence[str]) -> Haiku:
    """How many of the texts are haiku."""
    counts = tuple(tuple(map(syllables, text.strip().splitlines())) for text in texts)
    return Haiku(counts, wilson(sum(map(is_haiku, counts)), len(counts)))


def _score(scores: MeasuredScores | None, baseline: MeasuredScores | None) -> TextScore | None:
    if scores is None:
        return None
    own = scores.scores()
    ppl = perplexity(own.nll)
    if baseline is None:
        return TextScore(len(own.nll), ppl)
    compared = compare_text(own.nll, baseline.scores().nll, own.kld, own.same_top)
    return TextScore(
        len(own.nll),
        ppl,
        compared.ln_ratio,
        compared.correlation,
        compared.kld,
        compared.kld_percentiles,
        compared.dp,
        compared.dp_rms,
        compared.same_top,
    )


def _routing(scored: Sequence[MeasuredScores]) -> Routing | None:
    """Over all scored positions together; None for a dense model."""
    routed = [scores for scores in scored if scores.routing]
    if not routed:
        return None
    weights = [len(scores.nll) for scores in routed]
    layers = tuple(
        _weighted(same_layer, weights)
        for same_layer in zip(*(scores.routing for scores in routed), strict=True)
    )
    if any(layer.kld is None for layer in layers):
        return Routing(sum(weights), layers)
    shares = np.array([(layer.same_experts, layer.jaccard, layer.kld) for layer in layers], float)
    drift = np.argsort(-shares[:, 2], kind="stable")[:_DRIFT]
    same_experts, jaccard, kld = shares.mean(axis=0).tolist()
    return Routing(sum(weights), layers, same_experts, jaccard, kld, tuple(drift.tolist()))


def _weighted(layers: Sequence[LayerRouting], weights: Sequence[int]) -> LayerRouting:
    load = np.average([layer.load for layer in layers], axis=0, weights=weights)
    if any(layer.kld is None for layer in layers):
        return LayerRouting(tuple(load.tolist()))
    shares = np.array([(layer.same_experts, layer.jaccard, layer.kld) for layer in layers], float)
    return LayerRouting(tuple(load.tolist()), *np.average(shares, axis=0, weights=weights).tolist())


def _machine(measured: Measured, scored: Sequence[MeasuredScores]) -> Machine | None:
    if measured.run is None:
        return None
    # A long text measures the speed better than many short prompts.
    prompts = scored[-1].speed if scored else Speed()
    answers = sum((one.speed for one in measured.prompts if one), Speed())
    return Machine(
        measured.run.load_seconds,
        prompts.prompt_tokens / prompts.prompt_seconds if prompts.prompt_seconds else 0.0,
        answers.tokens / answers.seconds if answers.seconds else 0.0,
        measured.run.peak_memory,
    )
