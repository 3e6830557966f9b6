"""A request for text, whatever its dialect, and the tokens that answer it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from franken_gguf.runner.engine.ban_filter import unbanned
from franken_gguf.runner.engine.engine import Engine, Generation
from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.prompt.text_stream import TokenText
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import Sampling


@dataclass(frozen=True)
class Completion:
    """What to generate, and how."""

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int | None = None
    """Longest answer; 0 only evaluates the prompt, None is as much as the context holds."""
    stops: tuple[str, ...] = ()
    banned: Banned = field(default_factory=Banned)
    n_probs: int | None = None
    """How many alternatives of each token to tell; None tells no probabilities."""
    is_trimmed: bool = False
    """Whether spaces at the start are left out, as in the answer of a chat."""


@dataclass(frozen=True)
class Token:
    """A token of the answer, the text that it completes, and its probability if wanted."""

    token: int
    text: str
    odds: Odds | None = None


@dataclass(frozen=True)
class Finished:
    """The end of an answer."""

    text: str
    generation: Generation
    stopped_by: str = ""
    """The stop text that ended it, if one did."""

    @property
    def reason(self) -> str:
        """OpenAI's finish_reason: "stop" or "length"."""
        return "length" if self.generation.finish in ("length", "context") else "stop"


def complete(engine: Engine, wanted: Completion) -> Generator[Token | Finished, None, None]:
    """Each token of the answer to `wanted`, then its end. Raises EngineError, SamplingError."""
    generation = engine.generate(
        wanted.prompt,
        wanted.sampling,
        wanted.max_tokens,
        can_rewind=bool(wanted.banned),
        records=wanted.n_probs is not None,
        alternatives=wanted.n_probs,
    )
    piece = engine.vocabulary.piece
    tokens = unbanned(generation, wanted.banned, piece) if wanted.banned else iter(generation)
    stream = TokenText(tokens, piece, wanted.stops)
    text = ""
    for place, one in enumerate(stream):
        shown = one.text if text or not wanted.is_trimmed else one.text.lstrip()
        text += shown
        odds = None if wanted.n_probs is None else generation.odds[place]
        yield Token(one.token, shown, odds)
    yield Finished(text, generation, stream.stopped_by)
