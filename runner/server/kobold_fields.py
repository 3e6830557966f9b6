"""KoboldCpp's names of sampling settings in llama.cpp's, and its requests as Completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .bodies import Fields, json_object, wrong
from .completing import Completion
from .sampling_fields import banned_of, renamed, sampling_of, stops_of
from .served_model import ServedModel

DEFAULT_LENGTH = 256
_MAX_CHARACTERS_PER_TOKEN = 1024
MAX_LOGPROBS = 5
_ORDER: dict[int, tuple[str, ...]] = {
    0: ("top_k",),
    1: (),  # top-a, which llama.cpp has not
    2: ("top_p", "min_p"),
    3: (),  # tail-free sampling, which llama.cpp no longer has
    4: ("typ_p",),
    5: ("temperature", "top_n_sigma"),
    6: ("penalties",),
}
"""KoboldCpp's numbers of samplers, as its expose.h and SampleLogits (1.93.2) have them.

DRY comes before all of them, XTC after.
"""
_BAN = -100.0  # KoboldCpp's lowest bias


@dataclass(frozen=True)
class KoboldRequest:
    """A request without its prompt's tokens."""

    memory: str
    """Stands before the prompt and is never cut."""
    prompt: str
    n_ctx: int
    """The most tokens of prompt and answer together."""
    length: int
    settings: Completion

    def fitting(self, memory: Sequence[int], prompt: Sequence[int]) -> tuple[int, ...]:
        """All of `memory`, and the end of `prompt` for which there is room, as KoboldCpp has it."""
        room = self.n_ctx - self.length - len(memory)
        if room <= 0:
            wrong("memory", f"shorter: with the answer, it fills the context of {self.n_ctx}")
        return (*memory, *prompt[-room:])


def kobold_completion(fields: Fields, model: ServedModel) -> Completion:
    """The answer that is wanted; of a prompt that is too long the oldest part is cut off.

    Raises RequestError, SamplingError, BanError.
    """
    asked, count = _request(fields, model), model.vocabulary.prompt
    if len(asked.prompt) + len(asked.memory) > _MAX_CHARACTERS_PER_TOKEN * model.engine.n_ctx:
        wrong("prompt", "shorter: it is far too long for the context")
    whole = count(asked.memory + asked.prompt)
    memory = count(asked.memory) if asked.memory else []
    room = asked.n_ctx - asked.length
    tokens = whole if len(whole) <= room else asked.fitting(memory, whole[len(memory) :])
    return replace(asked.settings, prompt=model.fitting(tokens))


def _request(fields: Fields, model: ServedModel) -> KoboldRequest:
    """The request in `fields`. Raises RequestError, SamplingError, BanError."""
    members = dict(renamed(fields).members)
    members["ignore_eos"] = any(
        fields.flag(name) for name in ("use_default_badwordsids", "ban_eos_token", "bypass_eos")
    )
    if fields.given("sampler_order"):
        members["samplers"] = _samplers(fields.items("sampler_order"))
    if (grammar := fields.text("grammar")).lstrip().startswith("{"):
        members |= {"grammar": "", "json_schema": json_object(grammar.encode())}
    if banned := fields.text("custom_token_bans"):
        members["logit_bias"] = _with_bans(members.get("logit_bias"), banned)
    sampling = sampling_of(Fields(members), model.chat.sampling, model.vocabulary)
    model.engine.check_grammar(sampling)
    n_ctx = model.engine.n_ctx
    wanted_ctx = fields.whole("max_context_length", n_ctx)
    if wanted_ctx < 2:
        wrong("max_context_length", "at least 2")
    n_ctx = min(n_ctx, wanted_ctx)
    length = fields.whole("max_length", DEFAULT_LENGTH)
    if length < 1:
        wrong("max_length", "at least 1")
    length = min(length, model.limit(None) or length, n_ctx - 1)
    settings = Completion(
        (),
        sampling,
        length,
        stops_of(fields, "stop_sequence"),
        banned_of(Fields(members), model.chat.banned),
        MAX_LOGPROBS if fields.flag("logprobs") else None,
    )
    return KoboldRequest(fields.text("memory"), fields.text("prompt"), n_ctx, length, settings)


def _samplers(order: list[Any]) -> list[str]:
    names = ["dry"]
    for number in order:
        if isinstance(number, bool) or not isinstance(number, int) or number not in _ORDER:
            wrong("sampler_order", "a list of the numbers 0 to 6")
        names += _ORDER[number]
    return [*names, "xtc"]


def _with_bans(biases: Any, banned: str) -> Any:
    """`biases` with those of `custom_token_bans`: ids with commas between."""
    found = {number.strip(): _BAN for number in banned.split(",") if number.strip().isdigit()}
    return {**biases, **found} if isinstance(biases, dict) else biases or found
