"""What is read off a running model, before anything is made of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from franken_gguf.runner.compare.results.document import FirstDifference
from franken_gguf.runner.compare.results.metrics import LayerRouting

from .log_probs import Scores


@dataclass(frozen=True)
class Speed:
    """Tokens and the seconds they took, of prompts and of answers."""

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
    """The greedy answer, with the end token where it ended."""
    text: str
    is_cut: bool
    samples: list[tuple[int, str, float]]
    """Seed, text, and the lean of the forced choice (0.0 where there are no labels)."""
    raw: list[list[float]]
    """The lean by paraphrase and order."""
    per_token: list[list[float]]
    raw_again: list[list[float]]
    """The baseline's `raw` once more, in other batches; empty for the others."""
    speed: Speed


@dataclass(frozen=True)
class MeasuredScores:
    """One model over scored positions, against the baseline."""

    nll: list[float]
    kld: list[float]
    same_top: list[bool]
    """Zeros and true for the baseline."""
    routing: list[LayerRouting]
    """By layer, over `len(nll)` tokens; empty for a dense model."""
    speed: Speed

    def scores(self) -> Scores:
        """The figures of each position as arrays."""
        return Scores(np.array(self.nll), np.array(self.kld), np.array(self.same_top, np.bool_))


@dataclass(frozen=True)
class MeasuredAnswers:
    """One model on the baseline's greedy answers, all prompts after each other."""

    scores: MeasuredScores
    differences: list[FirstDifference | None]
    """For each prompt; None where the answers are the same."""


@dataclass(frozen=True)
class Run:
    """What loading took, and the memory of the process; of the last run."""

    load_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Measured:
    """All of one model, as far as it could be measured."""

    prompts: list[MeasuredPrompt | None]
    answers: MeasuredAnswers | None
    text: MeasuredScores | None
    run: Run | None
    error: str = ""
