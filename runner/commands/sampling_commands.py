"""What the commands about sampling do: presets, bans, odds, experts; knows no screen."""

from __future__ import annotations

from dataclasses import dataclass

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.engine.generation import Generation, Routes
from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.sampling_presets import preset, presets
from franken_gguf.runner.sampling.settings import sampling_for

MAP = "map"


class NothingKeptError(FrankenError):
    """There is nothing to show yet, or no phrase of that name to allow again."""


@dataclass(frozen=True)
class Spelled:
    """A token's bytes, its odds, and those of the tokens that might have come."""

    piece: bytes
    odds: Odds
    alternatives: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True)
class Probabilities:
    """How likely each token of the last answer was."""

    tokens: tuple[Spelled, ...]


@dataclass(frozen=True)
class Experts:
    """Which experts the tokens of the last answer went to."""

    names: tuple[str, ...]
    tokens: tuple[tuple[bytes, Routes], ...]
    """The bytes of each, and its experts by layer."""
    has_map: bool = False
    """Whether every layer's choice for every token is wanted too."""


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
    return f"preset {name!r} loaded; /set shows its settings"


def ban(chat: Chat, phrase: str) -> str:
    """Ban a phrase; without any, list them."""
    if not phrase:
        return "\n".join(chat.banned.phrases) or "no banned phrases"
    chat.banned = Banned([*chat.banned.phrases, phrase])
    return f"banned: {phrase}"


def unban(chat: Chat, phrase: str) -> str:
    """Allow a phrase again, or with `all` every one."""
    left = [] if phrase == "all" else [one for one in chat.banned.phrases if one != phrase]
    if len(left) == len(chat.banned.phrases):
        raise NothingKeptError(f"{phrase!r} is not banned; /ban lists the banned phrases")
    chat.banned = Banned(left)
    return "no banned phrases left" if not left else f"no longer banned: {phrase}"


def probabilities(chat: Chat) -> Probabilities:
    """How likely the last answer's tokens were. Raises NothingKeptError."""
    last = _last(chat)
    return Probabilities(
        tuple(
            Spelled(
                _piece(chat, one.token),
                one,
                tuple((_piece(chat, token), share) for token, share in one.alternatives),
            )
            for one in last.odds
        )
    )


def experts(chat: Chat, what: str) -> Experts:
    """Which experts wrote the last answer; `what` is MAP or nothing. Raises NothingKeptError."""
    if what not in ("", MAP):
        raise NothingKeptError(f"write /experts or /experts {MAP}")
    if not chat.engine.captures_routing:
        raise NothingKeptError("routing is not recorded; start with --experts")
    last = _last(chat)
    if not last.routes:
        raise NothingKeptError("no token was routed: the model is not a mixture of experts")
    pieces = (_piece(chat, token) for token in last.taken)
    tokens = tuple(zip(pieces, last.routes, strict=False))
    return Experts(chat.expert_names, tokens, has_map=what == MAP)


def _last(chat: Chat) -> Generation:
    if chat.last is None or not chat.last.odds:
        raise NothingKeptError("there is no answer yet; ask something first")
    return chat.last


def _piece(chat: Chat, token: int) -> bytes:
    return chat.engine.vocabulary.spelling(token)
