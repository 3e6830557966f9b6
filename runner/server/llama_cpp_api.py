"""llama.cpp's dialect: /completion and what its clients ask besides."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from franken_gguf.runner.engine.vocabulary import Vocabulary

from . import llama_cpp_shapes as shapes
from .answering import collected, model_of, streamed
from .bodies import Fields, read_fields, wrong
from .chat_messages import turns_of
from .completing import Completion, Finished, Token
from .event_stream import data
from .refusals import RequestError, llama_form
from .sampling_fields import banned_of, sampling_of, stops_of
from .served_model import ServedModel, in_thread

MAX_ANSWERS = 32
MAX_PROBS = 1_000


async def health(_: Request) -> Response:
    """GET /health."""
    return JSONResponse({"status": "ok"})


async def props(request: Request) -> Response:
    """GET /props: the chat template, the size of the context, what requests default to."""
    model = model_of(request)
    template, tokens = model.chat.template, model.chat.template.tokens
    defaults = Completion((), model.chat.sampling, model.chat.max_tokens, (), model.chat.banned)
    params = shapes.settings(defaults)
    n_ctx = model.engine.n_ctx
    return JSONResponse(
        {
            "default_generation_settings": {"id": 0, "n_ctx": n_ctx, **params, "params": params},
            "total_slots": 1,
            "model_alias": model.name,
            "model_path": model.engine.header.path.name,
            "modalities": {"vision": False, "audio": False},
            "chat_template": template.source,
            "bos_token": tokens.get("bos_token", ""),
            "eos_token": tokens.get("eos_token", ""),
            "build_info": f"franken-gguf {version('franken-gguf')}",
        }
    )


async def slots(request: Request) -> Response:
    """GET /slots: the one slot, with what is in its context, the queue and the kept contexts."""
    model = model_of(request)
    running = model.thread.running
    slot = {
        "id": 0,
        "n_ctx": model.engine.n_ctx,
        "is_processing": running is not None,
        "n_tokens": len(model.engine.evaluated),
        "served": model.thread.served,
        "waiting": [one.client for one in model.thread.waiting()],
        "kept": [
            {
                "n_tokens": len(one.tokens),
                "n_bytes": one.nbytes,
                "in": [*(["memory"] * (one.data is not None)), *(["disk"] * bool(one.path))],
                "seconds_unused": round(max(0.0, time.time() - one.used), 1),
            }
            for one in list(model.kept.states)
        ],
    }
    return JSONResponse([slot])


async def tokenize(request: Request) -> Response:
    """POST /tokenize."""
    fields, vocabulary = await read_fields(request), model_of(request).vocabulary
    special = fields.flag("parse_special", True)

    def tokens_of(text: str) -> list[int]:
        found = vocabulary.tokenize(text, parse_special=special)
        begins = fields.flag("add_special") and vocabulary.bos is not None
        return [vocabulary.bos, *found] if begins and vocabulary.bos is not None else found

    tokens = await in_thread(tokens_of, fields.text("content"))
    if not fields.flag("with_pieces"):
        return JSONResponse({"tokens": tokens})
    pieces = [{"id": one, "piece": _piece(vocabulary.spelling(one))} for one in tokens]
    return JSONResponse({"tokens": pieces})


async def detokenize(request: Request) -> Response:
    """POST /detokenize."""
    fields, vocabulary = await read_fields(request), model_of(request).vocabulary
    return JSONResponse({"content": text_of_ids(fields, "tokens", vocabulary)})


def text_of_ids(fields: Fields, name: str, vocabulary: Vocabulary) -> str:
    """The text of a list of token ids. Raises RequestError."""
    tokens = token_ids(fields.items(name), name)
    if any(token >= vocabulary.size for token in tokens):
        wrong(name, f"token ids below {vocabulary.size}")
    return text_of_tokens(tokens, vocabulary)


def text_of_tokens(tokens: Iterable[int], vocabulary: Vocabulary) -> str:
    """The text of tokens, special ones by name."""
    return b"".join(map(vocabulary.spelling, tokens)).decode(errors="replace")


async def apply_template(request: Request) -> Response:
    """POST /apply-template."""
    fields = await read_fields(request)
    text = await in_thread(model_of(request).render, turns_of(fields))
    return JSONResponse({"prompt": text})


async def completion(request: Request) -> Response:
    """POST /completion."""
    fields, model = await read_fields(request), model_of(request)
    wanted = await in_thread(_wanted, fields, model)
    shown = fields.texts("response_fields")
    if fields.flag("stream"):
        return streamed(request, wanted, _Events(wanted, model, shown).word, llama_form)
    has_tokens = fields.flag("return_tokens")
    answers = [
        shapes.chosen(
            _final(index, done, wanted[index], model)
            | {
                "content": done.text,
                "tokens": [one.token for one in tokens] if has_tokens else [],
                **_all_probabilities(tokens, model),
            },
            shown,
        )
        for index, (tokens, done) in enumerate(await collected(request, wanted))
    ]
    return JSONResponse(answers if len(answers) > 1 else answers[0])


def _final(index: int, done: Finished, wanted: Completion, model: ServedModel) -> dict[str, Any]:
    prompt = text_of_tokens(wanted.prompt, model.vocabulary)
    return shapes.final(index, done, wanted, model.name, prompt)


class _Events:
    """The events of streamed answers; of the last one of each only the fields `shown`."""

    def __init__(self, wanted: list[Completion], model: ServedModel, shown: Sequence[str]) -> None:
        self._wanted = wanted
        self._model = model
        self._shown = shown
        self._places = [0] * len(wanted)

    def word(self, index: int, item: Token | Finished) -> str:
        """The event of one item of the answer `index`."""
        wanted, model = self._wanted[index], self._model
        if isinstance(item, Finished):
            return data(shapes.chosen(_final(index, item, wanted, model), self._shown))
        self._places[index] += 1
        place, n_prompt = self._places[index] - 1, len(wanted.prompt)
        return data(shapes.chunk(index, item, model.vocabulary, place, n_prompt))


def _all_probabilities(tokens: list[Token], model: ServedModel) -> dict[str, Any]:
    found = [shapes.probabilities(one.odds, model.vocabulary) for one in tokens if one.odds]
    return {"completion_probabilities": found} if found else {}


def _wanted(fields: Fields, model: ServedModel) -> list[Completion]:
    """The answers that a request wants. Raises RequestError, SamplingError, BanError."""
    n_predict = fields.whole("n_predict", fields.whole("max_tokens", -1))
    sampling = sampling_of(fields, model.chat.sampling, model.vocabulary)
    model.engine.check_grammar(sampling)
    n_probs = fields.within("n_probs", 0, 0, MAX_PROBS)
    stops, banned = stops_of(fields), banned_of(fields, model.chat.banned)
    limit = model.limit(n_predict)
    return [
        Completion(prompt, sampling, limit, stops, banned, n_probs or None)
        for prompt in _prompts(fields, model)
        for _ in range(_count(fields))
    ]


def _prompts(fields: Fields, model: ServedModel) -> list[tuple[int, ...]]:
    """A text, tokens, a list of both as one prompt, or a list of such prompts."""
    found = fields.members.get("prompt")
    if not fields.given("prompt"):
        wrong("prompt", "given, as a text or tokens")
    are_several = isinstance(found, list) and (
        all(isinstance(one, str | list | dict) for one in found) and found
    )
    several = found if are_several else [found]
    assert isinstance(several, list)
    if len(several) > MAX_ANSWERS:
        wrong("prompt", f"at most {MAX_ANSWERS} prompts")
    return [prompt_of(one, model) for one in several]


def prompt_of(found: object, model: ServedModel) -> tuple[int, ...]:
    """The tokens of one prompt: a text, token ids, or a list that mixes them.

    A text may be in an object, as llama.cpp has it for prompts with pictures.
    """
    if isinstance(found, dict):
        if found.get("multimodal_data"):
            wrong("prompt", "without multimodal_data: this model reads neither pictures nor sound")
        found = found.get("prompt_string")
    if isinstance(found, str):
        return model.prompt(Fields({"prompt": found}).text("prompt"))
    if not isinstance(found, list):
        wrong("prompt", "a text or a list of tokens")
    tokens: list[int] = []
    for part in found:
        if isinstance(part, str):
            tokens += model.vocabulary.tokenize(Fields({"": part}).text(""))
        else:
            tokens += token_ids([part], "prompt")
    return model.fitting(tokens)


def token_ids(found: list[Any], name: str) -> list[int]:
    """A list of token ids, of which 5.0 is one, too. Raises RequestError."""
    if not all(map(_is_id, found)):
        wrong(name, "a list of token ids")
    return list(map(int, found))


def _is_id(found: Any) -> bool:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return is_number and found >= 0 and found % 1 == 0


def _count(fields: Fields) -> int:
    return fields.within("n", fields.whole("n_cmpl", 1), 1, MAX_ANSWERS)


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


async def _not_supported(request: Request) -> Response:
    raise RequestError(f"{request.url.path} is not supported by this server", status=501)


ROUTES = [
    Route("/health", health),
    Route("/v1/health", health),
    Route("/props", props),
    Route("/slots", slots),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
    Route("/completion", completion, methods=["POST"]),
    Route("/completions", completion, methods=["POST"]),
    *(
        Route(path, _not_supported, methods=["POST"], include_in_schema=False)
        for path in ("/infill", "/embedding", "/embeddings", "/reranking", "/rerank")
    ),
]
