"""The JSON of llama.cpp's server: what its /completion, /props and /slots answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.engine.vocabulary import Vocabulary
from franken_gguf.runner.sampling.settings import Sampling

from .completing import Completion, Finished, Token

_LEAST_LOGPROB = -3.4e38  # JSON has no infinity; llama.cpp writes the lowest float


def chunk(index: int, item: Token, vocabulary: Vocabulary, place: int, n_prompt: int) -> Any:
    """The event of one token; `place` is how many came before it."""
    found = {
        "index": index,
        "content": item.text,
        "tokens": [item.token],
        "stop": False,
        "id_slot": 0,
        "tokens_predicted": place + 1,
        "tokens_evaluated": n_prompt,
    }
    if item.odds is not None:
        found["completion_probabilities"] = [probabilities(item.odds, vocabulary)]
    return found


def final(
    index: int, done: Finished, wanted: Completion, model: str, prompt: str
) -> dict[str, Any]:
    """The end of an answer to `prompt`, without its text."""
    generation = done.generation
    return {
        "index": index,
        "content": "",
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": model,
        "tokens_predicted": generation.tokens,
        "tokens_evaluated": generation.prompt_tokens,
        "generation_settings": settings(wanted),
        "prompt": prompt,
        "has_new_line": "\n" in done.text,
        "truncated": False,
        "stop_type": stop_type(done),
        "stopping_word": done.stopped_by,
        "tokens_cached": generation.prompt_tokens + generation.tokens,
        "timings": timings(generation),
    }


def chosen(found: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """What `found` has at `paths`, such as "timings/prompt_n", by path; all of it without any."""
    values = {path: _at(found, path.split("/")) for path in paths}
    return {path: value for path, value in values.items() if value is not None} if paths else found


def stop_type(done: Finished) -> str:
    """Why an answer ended, in llama.cpp's words: "word", "eos", "limit" or "none"."""
    if done.stopped_by:
        return "word"
    if done.generation.finish in ("length", "context"):
        return "limit"
    return "eos" if done.generation.end_token is not None else "none"


def timings(done: Generation) -> dict[str, Any]:
    """An answer's figures; cache_n is how many tokens of the prompt were evaluated before."""
    return {
        "cache_n": done.prompt_reused,
        "prompt_n": done.prompt_evaluated,
        "prompt_ms": done.prompt_seconds * 1e3,
        "prompt_per_token_ms": _ratio(done.prompt_seconds * 1e3, done.prompt_evaluated),
        "prompt_per_second": _ratio(done.prompt_evaluated, done.prompt_seconds),
        "predicted_n": done.tokens,
        "predicted_ms": done.seconds * 1e3,
        "predicted_per_token_ms": _ratio(done.seconds * 1e3, done.tokens),
        "predicted_per_second": done.tokens_per_second,
        "rewound_n": done.rewound,
    }


def settings(wanted: Completion) -> dict[str, Any]:
    """generation_settings: the sampling settings, and what else bounds the answer."""
    return {
        **sampling_settings(wanted.sampling),
        "n_predict": -1 if wanted.max_tokens is None else wanted.max_tokens,
        "max_tokens": -1 if wanted.max_tokens is None else wanted.max_tokens,
        "n_probs": wanted.n_probs or 0,
        "stop": list(wanted.stops),
        "banned_strings": list(wanted.banned.phrases),
    }


def sampling_settings(sampling: Sampling) -> dict[str, Any]:
    """The sampling settings, as JSON can hold them."""
    biases = [
        [token, bias if math.isfinite(bias) else False] for token, bias in sampling.logit_bias
    ]
    return {**asdict(sampling), "logit_bias": biases}


def probabilities(odds: Odds, vocabulary: Vocabulary) -> dict[str, Any]:
    """A token's probability and its alternatives, in llama.cpp's present form and its former one.

    The former one is {"content", "probs": [{"tok_str", "prob"}]}; clients still read it.
    """
    top = [spelled(token, share, vocabulary) for token, share in odds.alternatives]
    one = spelled(odds.token, odds.probability, vocabulary)
    former = [
        {"tok_str": entry["token"], "prob": share}
        for entry, (_, share) in zip(top, odds.alternatives, strict=True)
    ]
    return {**one, "top_logprobs": top, "content": one["token"], "probs": former}


def spelled(token: int, probability: float, vocabulary: Vocabulary) -> dict[str, Any]:
    """A token with its text, bytes and log probability."""
    piece = vocabulary.spelling(token)
    return {
        "id": token,
        "token": piece.decode(errors="replace"),
        "bytes": list(piece),
        "logprob": logprob(probability),
    }


def logprob(probability: float) -> float:
    """The natural logarithm, finite for 0 too."""
    return math.log(probability) if probability > 0 else _LEAST_LOGPROB


def _at(found: Any, names: Sequence[str]) -> Any:
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
