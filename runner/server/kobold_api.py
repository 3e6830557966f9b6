"""KoboldCpp's dialect: /api/v1 and /api/extra, for the clients that speak it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.engine.json_schema import schema_grammar

from .answering import client_of, model_of, submit
from .bodies import Fields, read_fields, wrong
from .completing import Completion, Finished, Token
from .event_stream import EventStream, data, items, unless_disconnected
from .kobold_fields import DEFAULT_LENGTH, kobold_completion
from .llama_cpp_api import text_of_ids
from .llama_cpp_shapes import stop_type
from .model_thread import Ticket
from .openai_shapes import Shape
from .refusals import as_request_error, kobold_form
from .served_model import in_thread

_API_VERSION = "1.2.5"
_VERSION = "1.87"
"""The newest KoboldCpp whose interface for text this is.

Since 1.88 its page leaves placeholders such as {{[INPUT]}} for the server to replace by the
model's instruct tags; everything else that came after 1.74 it asks for by the flags of /version.
"""
_MAX_REMEMBERED = 64
_STOP_REASONS = {"none": -1, "limit": 0, "eos": 1, "word": 2}


@dataclass
class Progress:
    """What of an answer there is, for clients that ask for it meanwhile."""

    ticket: Ticket[Token | Finished]
    text: str = ""
    done: Finished | None = None
    logprobs: Any = None


class Answers:
    """The latest answers by their client's key, `genkey`, or else by client."""

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self._by_key: OrderedDict[str, Progress] = OrderedDict()

    def begin(self, key: str, progress: Progress) -> None:
        """Remember an answer."""
        self.latest = self._by_key[key] = progress
        self._by_key.move_to_end(key)
        while len(self._by_key) > _MAX_REMEMBERED:
            self._by_key.popitem(last=False)

    def get(self, key: str) -> Progress | None:
        """The answer of a key."""
        return self._by_key.get(key)


async def generate(request: Request) -> Response:
    """POST /api/v1/generate."""
    fields = await read_fields(request)
    progress, one = await _begun(request, fields)

    async def finish() -> None:
        async for item in progress.ticket:
            _note(progress, item)

    await unless_disconnected(request, [progress.ticket], finish())
    logprobs = await _logprobs(request, progress, one)
    done = progress.done
    result: dict[str, Any] = {"text": progress.text, "finish_reason": "stop", "logprobs": logprobs}
    if done is not None:
        figures = done.generation
        result |= {
            "finish_reason": done.reason,
            "prompt_tokens": figures.prompt_tokens,
            "completion_tokens": figures.tokens,
        }
    return JSONResponse({"results": [result]})


async def generate_stream(request: Request) -> Response:
    """POST /api/extra/generate/stream."""
    progress, one = await _begun(request, await read_fields(request))

    async def events() -> AsyncIterator[str]:
        try:
            async for item in items(progress.ticket):
                if isinstance(item, str):
                    yield item
                    continue
                _note(progress, item)
                await _logprobs(request, progress, one)  # the client asks for them at the end
                reason = item.reason if isinstance(item, Finished) else None
                text = "" if isinstance(item, Finished) else item.text
                yield data({"token": text, "finish_reason": reason}, "message")
        except FrankenError as error:
            yield data(kobold_form(as_request_error(error)), "error")

    return EventStream([progress.ticket], events())


async def check(request: Request) -> Response:
    """GET or POST /api/extra/generate/check: what of the client's answer there is."""
    progress = _answers(request).get(await _key(request))
    return JSONResponse({"results": [{"text": progress.text if progress else ""}]})


async def abort(request: Request) -> Response:
    """POST /api/extra/abort: stops the answer of a `genkey`, or without one the client's."""
    # Clients send it without a content type, some without a body.
    key = (await read_fields(request)).text("genkey")
    if not key:
        runs = model_of(request).thread.cancel_all(client_of(request))
    else:
        progress = _answers(request).get(key)
        runs = progress is not None and progress.done is None
        if progress is not None:
            progress.ticket.cancel()
    return JSONResponse({"success": str(runs).lower(), "done": "true"})


async def token_count(request: Request) -> Response:
    """POST /api/extra/tokencount."""
    fields, vocabulary = await read_fields(request), model_of(request).vocabulary
    count = vocabulary.prompt if fields.flag("special", True) else vocabulary.tokenize
    ids = await in_thread(count, fields.text("prompt"))
    return JSONResponse({"value": len(ids), "ids": ids})


async def detokenize(request: Request) -> Response:
    """POST /api/extra/detokenize."""
    fields, vocabulary = await read_fields(request), model_of(request).vocabulary
    return JSONResponse({"result": text_of_ids(fields, "ids", vocabulary), "success": True})


async def last_logprobs(request: Request) -> Response:
    """POST /api/extra/last_logprobs."""
    progress = _answers(request).get(await _key(request))
    return JSONResponse({"logprobs": progress.logprobs if progress else None})


async def json_to_grammar(request: Request) -> Response:
    """POST /api/extra/json_to_grammar."""
    fields = await read_fields(request)
    if not fields.given("schema"):
        wrong("schema", "given, as a JSON schema")
    grammar = await in_thread(schema_grammar, fields.table("schema").members)
    return JSONResponse({"result": grammar, "success": True})


async def version(request: Request) -> Response:
    """GET /api/extra/version: KoboldCpp's version whose interface this is, and what is missing."""
    media = ("txt2img", "vision", "audio", "transcribe", "multiplayer", "websearch", "tts")
    others = (*media, "embeddings", "savedata", "admin", "guidance")
    return JSONResponse(
        {
            "result": "KoboldCpp",
            "version": _VERSION,
            "protected": bool(request.app.state.access.key),
            "llm": True,
            **dict.fromkeys(others, False),
            "server": "franken-gguf",
            "server_version": version_of("franken-gguf"),
        }
    )


async def perf(request: Request) -> Response:
    """GET /api/extra/perf: the latest answer's figures, and who waits."""
    model, latest = model_of(request), _answers(request).latest
    done = latest.done if latest else None
    figures = done.generation if done else None
    prompt = figures.prompt_seconds if figures else 0.0
    answer = figures.seconds if figures else 0.0
    n_prompt = figures.prompt_evaluated if figures else 0
    n_answer = figures.tokens if figures else 0
    return JSONResponse(
        {
            "last_process": prompt / n_prompt if n_prompt else 0,
            "last_eval": answer / n_answer if n_answer else 0,
            "last_token_count": n_answer,
            "last_process_time": prompt,
            "last_eval_time": answer,
            "last_process_speed": n_prompt / prompt if prompt else 0,
            "last_eval_speed": figures.tokens_per_second if figures else 0,
            "last_input_count": figures.prompt_tokens if figures else 0,
            "total_gens": model.thread.served,
            "stop_reason": _STOP_REASONS[stop_type(done)] if done else -1,
            "queue": len(model.thread.waiting()),
            "idle": int(model.thread.running is None),
            "uptime": int(time.time()) - model.started,
        }
    )


async def _begun(request: Request, fields: Fields) -> tuple[Progress, Completion]:
    model = model_of(request)
    one = await in_thread(kobold_completion, fields, model)
    progress = Progress(submit(request, [one])[0])
    _answers(request).begin(fields.text("genkey") or client_of(request), progress)
    return progress, one


def _note(progress: Progress, item: Token | Finished) -> None:
    if isinstance(item, Finished):
        progress.done = item
    else:
        progress.text += item.text


async def _logprobs(request: Request, progress: Progress, one: Completion) -> Any:
    """Of an answer that recorded them, in KoboldCpp's form: OpenAI's two in one object."""
    if one.n_probs is None or progress.done is None:
        return None
    model = model_of(request)
    spelling = model.vocabulary.spelling
    tokens = [
        Token(odds.token, spelling(odds.token).decode(errors="replace"), odds)
        for odds in progress.done.generation.odds
    ]
    progress.logprobs = {
        key: value
        for is_chat in (True, False)
        for key, value in Shape(is_chat, model.name, model.vocabulary).logprobs(tokens, 0).items()
    }
    return progress.logprobs


async def _key(request: Request) -> str:
    fields = await read_fields(request)
    return fields.text("genkey") or client_of(request)


def _answers(request: Request) -> Answers:
    found: Answers = request.app.state.kobold_answers
    return found


def _value(path: str, of: Any, name: str = "value") -> list[Route]:
    async def answer(request: Request) -> Response:
        return JSONResponse({name: of(request)})

    return [Route(f"/api/{version}/{path}", answer) for version in ("v1", "latest")]


def _n_ctx(request: Request) -> int:
    return model_of(request).engine.n_ctx


async def no_story(_: Request) -> Response:
    """GET /api/extra/preloadstory: none, as in KoboldCpp without one."""
    return JSONResponse({})


async def true_max_context(request: Request) -> Response:
    """GET /api/extra/true_max_context_length."""
    return JSONResponse({"value": _n_ctx(request)})


ROUTES = [
    *_value("info/version", lambda _: _API_VERSION, "result"),
    *_value("model", lambda request: f"koboldcpp/{model_of(request).name}", "result"),
    *_value("config/max_context_length", _n_ctx),
    *_value("config/max_length", lambda request: model_of(request).limit(None) or DEFAULT_LENGTH),
    *_value("config/soft_prompt", lambda _: ""),
    *_value("config/soft_prompts_list", lambda _: [], "values"),
    Route("/api/extra/preloadstory", no_story),
    Route("/api/v1/generate", generate, methods=["POST"]),
    Route("/api/latest/generate", generate, methods=["POST"]),
    Route("/api/extra/generate/stream", generate_stream, methods=["POST"]),
    Route("/api/extra/generate/check", check, methods=["GET", "POST"]),
    Route("/api/extra/abort", abort, methods=["POST"]),
    Route("/api/extra/tokencount", token_count, methods=["POST"]),
    Route("/api/extra/tokenize", token_count, methods=["POST"]),
    Route("/api/extra/detokenize", detokenize, methods=["POST"]),
    Route("/api/extra/last_logprobs", last_logprobs, methods=["GET", "POST"]),
    Route("/api/extra/json_to_grammar", json_to_grammar, methods=["POST"]),
    Route("/api/extra/true_max_context_length", true_max_context),
    Route("/api/extra/version", version),
    Route("/api/extra/perf", perf),
]
