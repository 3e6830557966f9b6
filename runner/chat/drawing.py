"""What the commands about drawing tokens do: presets, bans, odds, experts; knows no screen."""

from __future__ import annotations

from dataclasses import dataclass

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.runner.engine.banned import Banned
from franken_gguf.runner.engine.generation import Generation, Routes
from franken_gguf.runner.engine.odds import Odds
from franken_gguf.runner.engine.sampling import sampling_for

from .chat import Chat
from .presets import preset, presets


class NothingKeptError(FrankenError):
    """There is no answer yet of which it could be told."""


@dataclass(frozen=True)
class Spelled:
    """A token as text, its odds, and those of the tokens that might have come."""

    text: str
    odds: Odds
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Probabilities:
    """How likely each token of the last answer was."""

    tokens: tuple[Spelled, ...]


@dataclass(frozen=True)
class Experts:
    """Which experts the tokens of the last answer went to."""

    names: tuple[str, ...]
    tokens: tuple[tuple[str, Routes], ...]
    """Each as text, with the experts by layer."""


def use_preset(chat: Chat, name: str) -> str:
    """Take the settings of a preset; without a name, list the presets.

    What it does not name is as at the start of a chat, but for seed, grammar and logit bias, which
    are the user's: nothing of an earlier preset stays.
    """
    if not name:
        return "\n".join(
            f"{each:10} {', '.join(f'{key} {value}' for key, value in settings.items())}".rstrip()
            for each, settings in presets().items()
        )
    own = {each: getattr(chat.sampling, each) for each in ("seed", "grammar", "logit_bias")}
    sampling = sampling_for(chat.engine.header.metadata, preset(name), own)
    chat.engine.check(sampling)
    chat.sampling = sampling
    return f"the settings of {name!r} are used now; /set shows them"


def ban(chat: Chat, phrase: str) -> str:
    """Ban a phrase; without any, list them."""
    if not phrase:
        return "\n".join(chat.banned.phrases) or "no phrase is banned"
    chat.banned = Banned([*chat.banned.phrases, phrase])
    return f"banned: {phrase}"


def unban(chat: Chat, phrase: str) -> str:
    """Allow a phrase again, or with `all` every one."""
    left = [] if phrase == "all" else [one for one in chat.banned.phrases if one != phrase]
    if len(left) == len(chat.banned.phrases):
        raise NothingKeptError(f"{phrase!r} is not banned; /ban lists what is")
    chat.banned = Banned(left)
    return "no phrase is banned now" if not left else f"allowed again: {phrase}"


def probabilities(chat: Chat) -> Probabilities:
    """Of the last answer's tokens. Raises NothingKeptError."""
    last = _last(chat)
    return Probabilities(
        tuple(
            Spelled(
                _text(chat, one.token),
                one,
                tuple((_text(chat, token), share) for token, share in one.alternatives),
            )
            for one in last.odds
        )
    )


def experts(chat: Chat) -> Experts:
    """Of the last answer's tokens. Raises NothingKeptError."""
    if not chat.engine.listens:
        raise NothingKeptError("nobody listens to the routers; begin the chat with --experts")
    last = _last(chat)
    if not last.routes:
        raise NothingKeptError("no token was routed: the model is no mixture of experts")
    texts = (_text(chat, token) for token in last.taken)
    return Experts(chat.expert_names, tuple(zip(texts, last.routes, strict=False)))


def _last(chat: Chat) -> Generation:
    if chat.last is None or not chat.last.odds:
        raise NothingKeptError("there is no answer yet; ask something first")
    return chat.last


def _text(chat: Chat, token: int) -> str:
    return chat.engine.vocabulary.spelling(token).decode(errors="replace")
