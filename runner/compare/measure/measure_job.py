"""The job of the process that measures one model, its parts, and its progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.loading import LoadOptions

from .tasks import Tasks
from .workspace import Workspace

ANSWERS, TEXT, RUN = "answers", "text", "run"
_PROMPT = "prompt-"
SCORED_PARTS = (ANSWERS, TEXT)
"""Parts that are compared with the baseline's scores."""


def prompt_part(number: int) -> str:
    """The part of the prompt with this index."""
    return f"{_PROMPT}{number}"


def parts(tasks: Tasks) -> list[str]:
    """All parts measured of a model, in their order."""
    prompts = [prompt_part(number) for number in range(len(tasks.prompts))]
    return [*prompts, *[ANSWERS] * bool(prompts), *[TEXT] * bool(tasks.chunks)]


def description(part: str) -> str:
    """What a model is doing during a part, for a screen."""
    fixed = {ANSWERS: "scoring the baseline's answers", TEXT: "scoring the text"}
    return fixed.get(part) or f"answering prompt {int(part.removeprefix(_PROMPT)) + 1}"


@dataclass(frozen=True)
class Job:
    """One model, and the parts to measure."""

    path: Path
    key: str
    """Its folder in the workspace."""
    baseline: Path
    """The model whose chat template all of them are asked with."""
    baseline_key: str
    tasks: Tasks
    settings: Settings
    workspace: Workspace
    parts: tuple[str, ...]
    options: LoadOptions
    vram: tuple[int, ...] | None = None
    rpc: tuple[str, ...] = ()
    to_come: tuple[tuple[str, ...], ...] = ()
    """The parts still to measure of every model, the baseline's first, to estimate their time."""

    @property
    def is_baseline(self) -> bool:
        """Whether the others are compared with this model."""
        return self.key == self.baseline_key


@dataclass(frozen=True)
class Progress:
    """How much of a model is done."""

    part: str
    """What is being measured; "" while the model loads."""
    done: float
    """Share of the part, 0 to 1."""
