"""Blind rounds: a turn of a story answered by two models, and the choice between the answers.

Which answer is whose is known here alone until enough choices are made.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.gguf_file.model_identity import identity
from franken_gguf.runner.chat.answer import now
from franken_gguf.runner.compare.results.preference import Preference, preference
from franken_gguf.runner.compare.results.votes import Vote, VotedModel
from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.swipes import swipes, with_shown, with_swipe
from franken_gguf.runner.sampling.settings import RANDOM_SEED, Sampling

from .bodies import Fields, wrong
from .llama_cpp_shapes import sampling_settings
from .refusals import RequestError
from .served_model import ServedModel
from .stories import Stories
from .story_answers import Asked, asked, started
from .story_view import revision
from .vote_file import add_vote, read_votes

_CHOICES = {"first": 0, "second": 1, "equal": None}
_MAX_OPEN = 256
_TEXTS = ("grammar", "logit_bias", "dry_sequence_breakers")


@dataclass(frozen=True)
class Written:
    """One model's answer, and the story with it."""

    conversation: Conversation
    place: int
    """The index of the answer's message."""
    speaker: str
    revision: str
    """The story's, before the answer."""
    prompt: str
    """A hash of the tokens that the model read."""

    @property
    def text(self) -> str:
        """The answer, with the text that it continues."""
        return self.conversation.messages[self.place].content


@dataclass(frozen=True)
class Round:
    """Two answers that wait for a choice, in the order in which they are shown."""

    number: str
    written: tuple[Written, Written]
    models: tuple[int, int]
    """Which of the two models wrote each."""
    wanted: Asked

    def view(self) -> dict[str, Any]:
        """What the page may know."""
        first, is_asked = self.written[0], self.wanted.action in ("ask", "instead")
        return {
            "id": self.number,
            "question": self.wanted.text if is_asked else "",
            "index": first.place,
            "speaker": first.speaker,
            "answers": [one.text for one in self.written],
        }

    def story(self, chosen: int) -> Conversation:
        """The story with one answer as its turn, and the other, if it differs, as a swipe."""
        taken, other = self.written[chosen], self.written[1 - chosen]
        if taken.text == other.text:
            return taken.conversation
        message = taken.conversation.messages[taken.place]
        place = swipes(message)[1]
        both = with_shown(with_swipe(message, other.text, now()), place)
        messages = list(taken.conversation.messages)
        messages[taken.place] = both
        return replace(taken.conversation, messages=messages)


class BlindError(FrankenError):
    """Two models cannot be compared."""


def identities(headers: Sequence[Header]) -> list[str]:
    """The models' identities. Raises BlindError if they are the same, GGUFError, OSError."""
    found = [identity(header) for header in headers]
    if len(set(found)) < len(found):
        names = " and ".join(str(header.path) for header in headers)
        raise BlindError(f"{names} are the same model; compare two that differ")
    return found


class BlindRounds:
    """The rounds of two models, at most one open for each story, and their votes in `path`."""

    def __init__(self, models: tuple[ServedModel, ServedModel], path: Path) -> None:
        self.models = models
        self.path = path
        self._ids = identities([model.engine.header for model in models])
        self._open: dict[str, Round] = {}

    def asked(self, fields: Fields) -> tuple[Asked, Asked]:
        """A request for a round, for each model: the same settings, and a seed that both get."""
        first = asked(fields, self.models[0])
        if first.sampling.seed == RANDOM_SEED:
            seed = secrets.randbelow(RANDOM_SEED)
            first = replace(first, sampling=replace(first.sampling, seed=seed))
        second = asked(fields, self.models[1], first.sampling)
        sampling = replace(second.sampling, seed=first.sampling.seed)
        return first, replace(second, sampling=sampling)

    def begin(self, story: str, written: Sequence[Written], wanted: Asked) -> Round:
        """Open a round with the answers of both models, in random order."""
        first, second = written
        if first.revision != second.revision:
            raise RequestError("the story has changed meanwhile; ask again", status=409)
        order = shown_order()
        shown = (written[order[0]], written[order[1]])
        self._open.pop(story, None)
        while len(self._open) >= _MAX_OPEN:
            del self._open[next(iter(self._open))]
        found = self._open[story] = Round(secrets.token_hex(8), shown, order, wanted)
        return found

    def open_round(self, story: str) -> Round | None:
        """The round of a story that waits for a choice."""
        return self._open.get(story)

    def discard(self, story: str) -> None:
        """Drop a story's round without a choice."""
        self._open.pop(story, None)

    def choose(self, stories: Stories, name: str, fields: Fields) -> None:
        """Make the choice in `fields`: the story gets the answer, the file a vote.

        If neither is better, the one shown first becomes the turn. Raises FrankenError.
        """
        choice, found = fields.text("choice"), self._open.get(name)
        if choice not in _CHOICES:
            wrong("choice", ", ".join(_CHOICES))
        if found is None or found.number != fields.text("id"):
            raise RequestError("this pair of answers no longer exists; ask again", status=409)
        chosen = _CHOICES[choice]
        told, base = found.story(chosen or 0), Fields({"revision": found.written[0].revision})
        with stories.changing(name, base) as story:
            story.messages, story.forgotten, story.memory = (
                told.messages,
                told.forgotten,
                told.memory,
            )
        self.discard(name)
        add_vote(self.path, self._vote(found, chosen))

    def result(self) -> Preference:
        """The preference between the two models, over all votes of the file."""
        (first, second), ids = (model.name for model in self.models), self._ids
        return preference(read_votes(self.path).votes, (first, ids[0]), (second, ids[1]))

    def _vote(self, made: Round, chosen: int | None) -> Vote:
        one, other = (
            VotedModel(self.models[number].engine.header.path.name, self._ids[number], part.prompt)
            for number, part in zip(made.models, made.written, strict=True)
        )
        return Vote(
            (one, other),
            chosen,
            now(),
            _without_texts(made.wanted.sampling),
            made.wanted.max_tokens,
        )


def shown_order() -> tuple[int, int]:
    """Which of the two models' answers is shown first, and which second; at random."""
    return (0, 1) if secrets.randbelow(2) else (1, 0)


def written(
    model: ServedModel, stories: Stories, name: str, wanted: Asked
) -> Generator[Written, None, None]:
    """A model's answer in a story, which stays as it is; nothing if it is stopped.

    To be used in the models' thread. Raises FrankenError.
    """
    with stories.opened(name) as session:
        conversation = session.read()
        before = revision(conversation)
        dialogue, answer = started(model, stories.sessions, session, conversation, wanted)
        answer.read()
    done = answer.generation
    if done.finish != "interrupted":
        read = model.engine.evaluated[: done.prompt_tokens]
        yield Written(
            dialogue.chat.conversation,
            answer.place,
            answer.speaker,
            before,
            hashlib.blake2b(repr(list(read)).encode(), digest_size=12).hexdigest(),
        )


def preference_view(found: Preference) -> dict[str, Any]:
    """A preference as JSON."""
    share = found.share
    return {
        "choices": found.choices,
        "equal": found.equal,
        "models": [
            {"name": found.first, "chosen": found.first_chosen},
            {"name": found.second, "chosen": found.second_chosen},
        ],
        "share": share.value,
        "low": share.low,
        "high": share.high,
        "p_value": found.p_value,
        "is_beyond_chance": found.is_beyond_chance,
    }


def _without_texts(sampling: Sampling) -> dict[str, Any]:
    """The settings without those in which a story's words can be."""
    return {
        name: value for name, value in sampling_settings(sampling).items() if name not in _TEXTS
    }
