"""Measurements as a running model gives them, before any statistics. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from franken_gguf.runner.compare.results.document import FirstDifference
from franken_gguf.runner.compare.results.metrics import LayerRouting

from .log_probs import Scores


@dataclass(frozen=True)
class Speed:
    """Tokens evaluated in prompts and generated in answers, and the seconds they took."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Speed) -> Speed:
        return Speed(
            self.prompt_tokens + other.prompt_tokens,
            self.prompt_seconds + other.prompt_seconds,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class MeasuredPrompt:
    """One model's answers to one prompt, and its leans."""

    tokens: list[int]
    """The greedy answer; ends with the end token unless it was cut."""
    text: str
    is_cut: bool
    samples: list[tuple[int, str, float]]
    """Seed, text, and the lean of the forced choice (0.0 if the prompt has no labels)."""
    raw: list[list[float]]
    """Leans by paraphrase and order."""
    per_token: list[list[float]]
    raw_again: list[list[float]]
    """The baseline's `raw` measured again in other batches; empty for other models."""
    speed: Speed


@dataclass(frozen=True)
class MeasuredScores:
    """One model's scores at each position, compared with the baseline's."""

    nll: list[float]
    kld: list[float]
    same_top: list[bool]
    """All true for the baseline, whose `kld` is 0."""
    routing: list[LayerRouting]
    """By layer, over `len(nll)` tokens; empty for a dense model."""
    speed: Speed

    def scores(self) -> Scores:
        """The same as arrays."""
        return Scores(np.array(self.nll), np.array(self.kld), np.array(self.same_top, np.bool_))


@dataclass(frozen=True)
class MeasuredAnswers:
    """One model's scores of the baseline's greedy answers, prompt after prompt."""

    scores: MeasuredScores
    differences: list[FirstDifference | None]
    """One per prompt; None if the answers are the same."""


@dataclass(frozen=True)
class Run:
    """Load time and peak memory of the last process that measured the model."""

    load_seconds: float
    peak_memory: int
    """Bytes."""


@dataclass(frozen=True)
class Measured:
    """Everything measured of one model; None for parts that could not be."""

    prompts: list[MeasuredPrompt | None]
    answers: MeasuredAnswers | None
    text: MeasuredScores | None
    run: Run | None
    error: str = ""
