"""A loaded model with everything that is needed to measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.prompt.text_stream import text_of

from .workspace import Workspace


@dataclass
class LoadedModel:
    """A model ready to be measured."""

    engine: Engine
    template: Template
    settings: Settings
    workspace: Workspace
    probe: RouterProbe | None
    """None for a dense model."""
    is_baseline: bool
    on_progress: Callable[[float], None] = field(default=lambda _: None)
    """Called with the share of a part that is done, 0 to 1."""

    def text(self, tokens: Iterable[int]) -> str:
        """The text of an answer's tokens, up to the template's stop strings."""
        # SentencePiece begins an answer with a space that is not part of its text.
        piece = self.engine.vocabulary.piece
        return "".join(text_of(tokens, piece, self.template.stops)).lstrip()
