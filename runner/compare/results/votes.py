"""Blind choices between the answers of two models, as lines of a votes file. Pure.

Each line is a JSON object: {"version", "time", "models": [{"file", "id", "prompt"}, the same of the
other], "chosen", "sampling", "max_tokens"}. docs/serving-api.md describes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = 1
_MAX_LINE = 1 << 16
_MAX_NAME = 255


@dataclass(frozen=True)
class VotedModel:
    """A model whose answer was shown."""

    file: str
    """Its file's name, without the folder."""
    id: str
    """Its content's hash (model_identity.py)."""
    prompt: str = ""
    """A hash of the tokens that it answered."""


@dataclass(frozen=True)
class Vote:
    """One choice."""

    models: tuple[VotedModel, VotedModel]
    """In the order in which their answers were shown."""
    chosen: int | None
    """The index of the better one in `models`; None if neither was better."""
    time: str = ""
    """In UTC, in ISO 8601."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The settings of both answers that are numbers or names, the seed among them."""
    max_tokens: int | None = None

    def is_between(self, first: str, second: str) -> bool:
        """Whether its models have these identities."""
        return {first, second} == {one.id for one in self.models}


@dataclass(frozen=True)
class Votes:
    """The votes of a file, and the numbers, from 1, of its lines that are not votes."""

    votes: tuple[Vote, ...] = ()
    other_lines: tuple[int, ...] = ()


def encode(vote: Vote) -> str:
    """The line of a vote, with its end."""
    return json.dumps({"version": VERSION, **asdict(vote)}, ensure_ascii=False) + "\n"


def decode(text: str) -> Votes:
    """The votes in a file's text."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    found = [(number, _vote(line)) for number, line in lines]
    return Votes(
        tuple(vote for _, vote in found if vote),
        tuple(number for number, vote in found if vote is None),
    )


def _vote(line: str) -> Vote | None:
    """The vote in a line; None if it has none, or one of a version that is not known."""
    try:
        found = json.loads(line) if len(line) <= _MAX_LINE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    models = [_model(one) for one in _list(found.get("models"))]
    chosen = found.get("chosen")
    if len(models) != 2 or None in models or not _is_choice(chosen):
        return None
    first, second = models
    assert first and second
    if first.id == second.id:
        return None
    time, sampling, limit = (found.get(name) for name in ("time", "sampling", "max_tokens"))
    return Vote(
        (first, second),
        chosen,
        time if isinstance(time, str) else "",
        sampling if isinstance(sampling, dict) else {},
        limit if isinstance(limit, int) else None,
    )


def _model(found: object) -> VotedModel | None:
    if not isinstance(found, dict):
        return None
    texts = [found.get(name, "") for name in ("file", "id", "prompt")]
    if not all(isinstance(text, str) and len(text) <= _MAX_NAME for text in texts) or not texts[1]:
        return None
    return VotedModel(*texts)


def _is_choice(found: object) -> bool:
    return found is None or (found in (0, 1) and type(found) is int)


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []
