"""What the commands for settings, bans, probabilities and experts do; they know no screen."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.engine.generation import Generation, Routes
from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.sampling_presets import preset, presets
from franken_gguf.runner.sampling.settings import (
    RANDOM_SEED,
    SamplingError,
    sampling_for,
    with_setting,
)

from .listing import shortened, table

MAP = "map"


class NothingToShowError(FrankenError):
    """There is no such answer, record, phrase or view."""


@dataclass(frozen=True)
class Spelled:
    """A token's bytes and probability, and the most likely alternatives with theirs."""

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
    """The bytes of each token, and its experts by layer."""
    has_map: bool = False
    """Whether to show each layer's choice for each token, too."""


def settings(chat: Chat) -> dict[str, float | str]:
    """All settings by name, as /set shows them."""
    found: dict[str, float | str] = asdict(chat.sampling)
    found["samplers"] = ";".join(chat.sampling.samplers)
    found["dry_sequence_breakers"] = " ".join(map(repr, chat.sampling.dry_sequence_breakers))
    found["logit_bias"] = ",".join(f"{token}{bias:+g}" for token, bias in chat.sampling.logit_bias)
    found["grammar"] = shortened(chat.sampling.grammar)
    if found["seed"] == RANDOM_SEED:
        found["seed"] = "-1 (random for each answer)"
    found["max_tokens"] = "-1 (no limit)" if chat.max_tokens is None else chat.max_tokens
    return found


def change_setting(chat: Chat, text: str) -> str:
    """Change one setting, or show all. Raises SamplingError."""
    words = text.removeprefix("parameter ").split(maxsplit=1)  # as ollama's
    if not words:
        return table(settings(chat))
    if len(words) != 2:
        raise SamplingError("use /set NAME VALUE, for example /set temp 0.7")
    name, value = words
    if name.replace("-", "_") in _MAX_TOKENS:
        chat.max_tokens = _answer_limit(name, value)
        return f"{name} is now {value}"
    sampling = with_setting(chat.sampling, name, value)
    chat.engine.check(sampling)
    chat.sampling = sampling
    return f"{name} is now {value}"


_MAX_TOKENS = ("n", "predict", "n_predict", "num_predict", "max_tokens")  # llama.cpp's, ollama's


def _answer_limit(name: str, text: str) -> int | None:
    number = int(text) if re.fullmatch(r"-?\d{1,9}", text) else 0
    if number == 0:
        raise SamplingError(f"{name} must be at least 1, or -1 for no limit, not {text!r}")
    return None if number < 0 else number


def use_preset(chat: Chat, name: str) -> str:
    """Use the settings of a preset, or list the presets.

    Settings that it does not name return to the model file's, else llama.cpp's defaults, except
    seed, grammar and logit bias: nothing of an earlier preset remains.
    """
    if not name:
        return "\n".join(
            f"{known:10} {', '.join(f'{key} {value}' for key, value in settings.items())}".rstrip()
            for known, settings in presets().items()
        )
    own = {key: getattr(chat.sampling, key) for key in ("seed", "grammar", "logit_bias")}
    sampling = sampling_for(chat.engine.header.metadata, preset(name), own)
    chat.engine.check(sampling)
    chat.sampling = sampling
    return f"preset {name!r} loaded; /set shows its settings"


def ban(chat: Chat, phrase: str) -> str:
    """Ban a phrase, or list the banned phrases."""
    if not phrase:
        return "\n".join(chat.banned.phrases) or "no banned phrases"
    chat.banned = Banned([*chat.banned.phrases, phrase])
    return f"banned: {phrase}"


def unban(chat: Chat, phrase: str) -> str:
    """Allow a phrase again, or all of them with "all"."""
    left = [] if phrase == "all" else [one for one in chat.banned.phrases if one != phrase]
    if len(left) == len(chat.banned.phrases):
        raise NothingToShowError(f"{phrase!r} is not banned; /ban lists the banned phrases")
    chat.banned = Banned(left)
    return "no banned phrases left" if not left else f"no longer banned: {phrase}"


def probabilities(chat: Chat) -> Probabilities:
    """How likely the last answer's tokens were. Raises NothingToShowError."""
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
    """Which experts wrote the last answer; `what` is MAP or nothing. Raises NothingToShowError."""
    if what not in ("", MAP):
        raise NothingToShowError(f"use /experts or /experts {MAP}")
    if not chat.engine.captures_routing:
        raise NothingToShowError("routing is not recorded; start with --experts")
    last = _last(chat)
    if not last.routes:
        raise NothingToShowError("no token was routed: the model is not a mixture of experts")
    pieces = (_piece(chat, token) for token in last.taken)
    tokens = tuple(zip(pieces, last.routes, strict=False))
    return Experts(chat.expert_names, tokens, has_map=what == MAP)


def _last(chat: Chat) -> Generation:
    if chat.last is None or not chat.last.odds:
        raise NothingToShowError("there is no answer yet; ask something first")
    return chat.last


def _piece(chat: Chat, token: int) -> bytes:
    return chat.engine.vocabulary.spelling(token)
