"""Sampling settings in a session's metadata: a resumed chat has the settings it was left with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.sampling.ban_list import BanError, Banned
from franken_gguf.runner.sampling.sampling_presets import checked_settings
from franken_gguf.runner.sampling.settings import Sampling, SamplingError, sampling_for
from franken_gguf.runner.story.author_note import metadata, set_metadata

from .chat import Chat

MAX_TOKENS, BANS = "max_tokens", "bans"
_OURS = "franken_gguf_settings"
_NO_LIMIT = -1


@dataclass(frozen=True)
class Settings:
    """All settings of a chat's answers."""

    sampling: Sampling
    max_tokens: int | None = None
    bans: tuple[str, ...] = ()


class KeptSettings:
    """Keeps a chat's settings in its conversation. `given` are those that the command line sets.

    They are named as `Sampling` names them, besides MAX_TOKENS and BANS. A given one stays when
    another conversation is opened, the others are those that were saved with it.
    """

    def __init__(self, chat: Chat, given: Collection[str] = ()) -> None:
        self._chat, self._given = chat, given
        self._start = _settings_of(chat)
        self._defaults = Settings(sampling_for(chat.engine.header.metadata))

    def keep(self) -> None:
        """Write the settings into the conversation: those that are not the model's defaults."""
        now, usual = _members(_settings_of(self._chat)), _members(self._defaults)
        kept = {name: value for name, value in now.items() if value != usual[name]}
        conversation = self._chat.conversation
        if kept or _OURS in metadata(conversation):
            set_metadata(conversation, **{_OURS: kept})

    def restore(self) -> str:
        """Use the conversation's settings; a line about what they change, "" if nothing.

        Settings that cannot be used, from a damaged file or for another model, change nothing.
        """
        try:
            found = self._saved(self._chat.conversation)
            self._chat.engine.check(found.sampling)
            banned = Banned(found.bans)
        except (SamplingError, BanError) as error:
            return f"the settings saved with this chat are not used: {error}"
        self._chat.sampling, self._chat.max_tokens = found.sampling, found.max_tokens
        self._chat.banned = banned
        start, members = _members(self._start), _members(found)
        changed = [_shown(name, members[name]) for name in members if members[name] != start[name]]
        if not changed:
            return ""
        return f"settings of this chat: {', '.join(changed)}; change them with /set or options"

    def _saved(self, conversation: Conversation) -> Settings:
        stored = metadata(conversation).get(_OURS)
        stored = stored if isinstance(stored, dict) else {}
        left = {name: value for name, value in stored.items() if name not in self._given}
        names = {field.name for field in fields(Sampling)}
        sampling = checked_settings(
            "session", {name: value for name, value in left.items() if name in names}
        )
        given = {name: getattr(self._start.sampling, name) for name in names & {*self._given}}
        return Settings(
            sampling_for(self._chat.engine.header.metadata, given, sampling),
            _limit(left[MAX_TOKENS]) if MAX_TOKENS in left else self._start.max_tokens,
            _phrases(left[BANS]) if BANS in left else self._start.bans,
        )


def _settings_of(chat: Chat) -> Settings:
    return Settings(chat.sampling, chat.max_tokens, chat.banned.phrases)


def _members(settings: Settings) -> dict[str, Any]:
    """All settings as JSON has them."""
    members = vars(settings.sampling) | {
        MAX_TOKENS: _NO_LIMIT if settings.max_tokens is None else settings.max_tokens,
        BANS: settings.bans,
        # JSON has no infinity.
        "logit_bias": [f"{token}{bias:+}" for token, bias in settings.sampling.logit_bias],
    }
    return {name: list(v) if isinstance(v, tuple) else v for name, v in members.items()}


def _limit(value: Any) -> int | None:
    if type(value) is not int or not (value == _NO_LIMIT or value > 0):
        raise SamplingError(f"{MAX_TOKENS} must be at least 1, or {_NO_LIMIT} for no limit")
    return None if value == _NO_LIMIT else value


def _phrases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
        raise BanError("the banned phrases must be a list of texts")
    return tuple(value)


def _shown(name: str, value: Any) -> str:
    return f"{name} {value:g}" if isinstance(value, int | float) else name
