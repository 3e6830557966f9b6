"""What is to be measured of one model, as another process is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.loading import LoadOptions

from .tasks import Tasks
from .workspace import Workspace

ANSWERS, TEXT, RUN = "answers", "text", "run"
SCORED_PARTS = (ANSWERS, TEXT)
"""Those that are held against the baseline's scores."""


def prompt_part(number: int) -> str:
    """The name of the part that a prompt is."""
    return f"prompt-{number}"


def parts(tasks: Tasks) -> list[str]:
    """All parts that are measured of a model, in their order."""
    prompts = [prompt_part(number) for number in range(len(tasks.prompts))]
    return [*prompts, *[ANSWERS] * bool(prompts), *[TEXT] * bool(tasks.chunks)]


@dataclass(frozen=True)
class Job:
    """One model, and the parts that are still missing."""

    path: Path
    key: str
    """Its folder in the workspace."""
    baseline: Path
    """The model whose chat template asks all of them."""
    baseline_key: str
    tasks: Tasks
    settings: Settings
    workspace: Workspace
    parts: tuple[str, ...]
    options: LoadOptions
    vram: tuple[int, ...] | None = None
    rpc: tuple[str, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether the others are held against this model."""
        return self.key == self.baseline_key


@dataclass(frozen=True)
class Progress:
    """How far a model is."""

    part: str
    """What is being measured; "" while the model loads."""
    done: float
    """0 to 1, of the part."""
