"""Sampling settings in the body of a request, by llama.cpp's names, which OpenAI's are among."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from franken_gguf.runner.engine.json_schema import schema_grammar
from franken_gguf.runner.engine.vocabulary import Vocabulary
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import RANDOM_SEED, SAMPLERS, Sampling, sampler_names

from .bodies import Fields, clean, wrong

_NUMBERS = {
    field.name: type(getattr(Sampling, field.name))
    for field in fields_of(Sampling)
    if type(getattr(Sampling, field.name)) in (int, float)
}
_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
}
"""llama.cpp's --sampling-seq."""
_KOBOLD_NAMES = {
    "rep_pen": "repeat_penalty",
    "rep_pen_range": "repeat_last_n",
    "typical": "typical_p",
    "nsigma": "top_n_sigma",
    "sampler_seed": "seed",
    "stop_sequence": "stop",
    "banned_tokens": "banned_strings",
    "ban_eos_token": "ignore_eos",
}
_MAX_STOPS, _MAX_STOP = 256, 1_000
ANY_OBJECT = {"type": "object"}
_NEVER = float("-inf")


def renamed(fields: Fields) -> Fields:
    """`fields` with KoboldCpp's names of settings as llama.cpp's, which come first."""
    others = {
        ours: fields.members[theirs]
        for theirs, ours in _KOBOLD_NAMES.items()
        if fields.given(theirs)
    }
    return Fields({**others, **fields.members})


def sampling_of(fields: Fields, defaults: Sampling, vocabulary: Vocabulary) -> Sampling:
    """`defaults` with the settings in `fields`. Raises RequestError, SamplingError."""
    given: dict[str, Any] = {}
    for name, kind in _NUMBERS.items():
        if fields.given(name):
            default = getattr(defaults, name)
            given[name] = (
                fields.whole(name, default) if kind is int else fields.number(name, default)
            )
    if given.get("seed", 0) < 0:
        given["seed"] = RANDOM_SEED
    if fields.given("dry_sequence_breakers"):
        given["dry_sequence_breakers"] = _breakers(fields)
    if fields.given("samplers"):
        given["samplers"] = _samplers(fields)
    biases = [*_biases(fields, vocabulary)]
    if fields.flag("ignore_eos"):
        biases += [(token, _NEVER) for token in vocabulary.end_tokens]
    if biases:
        given["logit_bias"] = tuple(biases)
    if (grammar := _grammar(fields)) is not None:
        given["grammar"] = grammar
    return replace(defaults, **given)


def stops_of(fields: Fields, name: str = "stop") -> tuple[str, ...]:
    """The texts that end an answer."""
    stops = tuple(filter(None, fields.texts(name)))
    if len(stops) > _MAX_STOPS or any(len(stop) > _MAX_STOP for stop in stops):
        wrong(name, f"at most {_MAX_STOPS} texts of at most {_MAX_STOP} characters")
    return stops


def banned_of(fields: Fields, always: Banned, name: str = "banned_strings") -> Banned:
    """The phrases that an answer may not contain, with those that none may. Raises BanError."""
    phrases = tuple(filter(None, fields.texts(name)))
    return Banned([*always.phrases, *phrases])


def _breakers(fields: Fields) -> tuple[str, ...]:
    """A list of texts, also as JSON in a text, which SillyTavern sends to some backends."""
    found = fields.members["dry_sequence_breakers"]
    if isinstance(found, str) and found.lstrip().startswith("["):
        with suppress(ValueError):
            fields = Fields({"dry_sequence_breakers": json.loads(found)})
    return tuple(filter(None, fields.texts("dry_sequence_breakers")))


def _samplers(fields: Fields) -> tuple[str, ...]:
    """Names, or the letters of --sampling-seq; unknown ones are ignored, as by llama.cpp."""
    found = fields.members["samplers"]
    if isinstance(found, str) and ";" not in found and found not in SAMPLERS:
        names = tuple(_LETTERS.get(letter, "") for letter in found)
    else:
        names = sampler_names(";".join(fields.texts("samplers")))
    return tuple(name for name in dict.fromkeys(names) if name in SAMPLERS)


def _biases(fields: Fields, vocabulary: Vocabulary) -> Iterator[tuple[int, float]]:
    """[[id or text, bias or false]], or {id or text: bias or false}, as OpenAI has it."""
    found = fields.members.get("logit_bias")
    if isinstance(found, Mapping):
        found = [[int(key) if _is_id(key) else key, value] for key, value in found.items()]
    if not isinstance(found, list | None):
        wrong("logit_bias", "a list of pairs, or an object")
    for pair in found or []:
        if not isinstance(pair, list) or len(pair) != 2:
            wrong("logit_bias", "a list of pairs: a token's id or a text, and a number or false")
        what, value = pair
        bias = _NEVER if value is False else Fields({"logit_bias": value}).number("logit_bias", 0)
        if isinstance(what, str):
            yield from ((token, bias) for token in vocabulary.tokenize(clean(what)))
        elif isinstance(what, int | float) and not isinstance(what, bool):
            token = Fields({"logit_bias": what}).whole("logit_bias", 0)
            if 0 <= token < vocabulary.size:  # other models' are ignored, as by llama.cpp
                yield token, bias
        else:
            wrong("logit_bias", "given for token ids or texts")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _grammar(fields: Fields) -> str | None:
    """A grammar, or that of a JSON schema; None if the request has neither."""
    if grammar := fields.text("grammar"):
        return grammar
    if fields.given("json_schema"):
        return schema_grammar(fields.table("json_schema").members)
    wanted = fields.table("response_format")
    kind = wanted.text("type", "text")
    if kind == "text":
        return "" if fields.given("grammar") else None
    if kind == "json_object":
        return schema_grammar(wanted.table("schema").members or ANY_OBJECT)
    if kind != "json_schema":
        wrong("response_format", "of type text, json_object or json_schema")
    inner = wanted.table("json_schema")
    schema = inner.table("schema") if inner.given("schema") else wanted.table("schema")
    return schema_grammar(schema.members)
