"""Comparisons for the tests of reports: figures drawn from a seed, which claim nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from franken_gguf.runner.compare.results.document import (
    Choices,
    Comparison,
    FirstDifference,
    GreedyAnswer,
    Haiku,
    Lean,
    Machine,
    ModelResult,
    Prompt,
    PromptResult,
    Routing,
    SampledAnswer,
    Settings,
    TextScore,
)
from franken_gguf.runner.compare.results.metrics import (
    Estimate,
    Interval,
    LayerRouting,
    bootstrap,
    wilson,
)

LIFE = Prompt("life", "Eternal or mortal?", 10, ("eternal", "mortal"), "lean")
HAIKU = Prompt("haiku", "A haiku, please.", 1, (), "haiku")
MIB = 1 << 20


def settings(text: str = "alice.txt") -> Settings:
    return Settings(2, 0.8, 1, 64, 1, text, 4 if text else 0, 512)


def score(kld: float | None, error: float = 0.001, same_top: float = 0.9) -> TextScore:
    """Of 1,000 tokens; the baseline's has no `kld`."""
    if kld is None:
        return TextScore(1000, Estimate(9.0, 0.2))
    return TextScore(
        1000,
        Estimate(9.0 + kld, 0.2),
        Estimate(kld, error),
        0.99,
        Estimate(kld, error),
        {"50": kld / 2, "99": 4 * kld},
        Estimate(-kld, error),
        kld,
        wilson(round(1000 * same_top), 1000),
    )


def lean(
    value: float, by: tuple[float, float, float] | None = None, noise: float = 0.0, count: int = 5
) -> Lean:
    """Around `value`, half a unit either way; `by` is the difference and its interval."""
    raw = Interval(value, value - 0.5, value + 0.5)
    spread = tuple(np.linspace(value - 1, value + 1, count).tolist())
    return Lean(raw, raw, 0.1, spread, Interval(*by) if by else None, None, noise)


def answer(text: str = "As it is.", **more: Any) -> PromptResult:
    return replace(PromptResult(GreedyAnswer(text, len(text.split()), False)), **more)


def model(name: str, mib: float, **more: Any) -> ModelResult:
    result = ModelResult(name, f"/models/{name}.gguf", round(mib * MIB), mib / 64, 0, 0)
    return replace(result, **more)


def comparison(
    *models: ModelResult, prompts: tuple[Prompt, ...] = (), text: str = "alice.txt"
) -> Comparison:
    """The first is the baseline."""
    return Comparison(settings(text), prompts, models[0].name, models)


def drawn(
    seed: int, names: tuple[str, ...] = ("F16", "Q8_0", "Q4_K_M"), words: str = ""
) -> Comparison:
    """With all that a document can hold; `words` go wherever a stranger's words may stand."""
    rng = np.random.default_rng(seed)
    life = replace(LIFE, text=LIFE.text + words, labels=("eternal" + words, "mortal" + words))
    models = [
        _drawn_model(rng, name + words, 1024 / 2**number, is_baseline=number == 0, words=words)
        for number, name in enumerate(names)
    ]
    return comparison(*models, prompts=(life, replace(HAIKU, name="haiku" + words)))


def _drawn_model(
    rng: np.random.Generator, name: str, mib: float, *, is_baseline: bool, words: str
) -> ModelResult:
    def layer() -> LayerRouting:
        load = tuple((rng.dirichlet(np.ones(4))).tolist())
        return LayerRouting(load) if is_baseline else LayerRouting(load, *rng.uniform(size=3))

    layers = tuple(layer() for _ in range(12))
    drift = sorted(range(12), key=lambda number: -(layers[number].kld or 0))[:3]
    shares = None if is_baseline else float(rng.uniform())
    wordings = rng.normal(2, 1, 8)
    moved = None if is_baseline else bootstrap(wordings - rng.normal(2, 1, 8))
    found = FirstDifference(2, 6, "its" + words, "the", (0.4, 0.2), (0.3, 0.5))
    text = "So it its" + words + " way, and goes on."
    greedy = GreedyAnswer(text, 9, True, None if is_baseline else found)
    samples = tuple(SampledAnswer(seed, f"One {seed}.{words}", seed % 2) for seed in (1, 2))
    plain = tuple(replace(sample, choice=None) for sample in samples)
    return model(
        name,
        mib,
        experts=4,
        experts_used=2,
        prompts=(
            PromptResult(
                greedy,
                samples,
                Lean(bootstrap(wordings), bootstrap(wordings), 0.2, tuple(wordings), moved),
                Choices(1, wilson(1, 2)),
            ),
            PromptResult(greedy, plain, haiku=Haiku(((5, 7, 5), (4,)), wilson(1, 2))),
        ),
        answers=score(None if is_baseline else float(rng.uniform())),
        text=score(None if is_baseline else float(rng.uniform())),
        routing=Routing(1000, layers, shares, shares, shares, () if is_baseline else tuple(drift)),
        machine=Machine(0.5, 100.0, 20.0, 700 * MIB),
    )


HOSTILE = "\"'><script>alert(1)</script></style></title>{{ 7*7 }}\x00\x1b[31m\u202e\ud800&lt;\r\n"
