"""OpenAI's dialect: /v1/models, /v1/completions and /v1/chat/completions."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .answering import collected, model_of, streamed
from .bodies import Fields, read_fields, wrong
from .chat_messages import turns_of
from .completing import Completion, Finished, Token
from .event_stream import data
from .llama_cpp_api import MAX_ANSWERS, MAX_PROBS, prompt_of
from .openai_shapes import Shape
from .reasoning import Reasoning, reasoning_begun
from .refusals import RequestError, openai_form
from .sampling_fields import banned_of, renamed, sampling_of, stops_of
from .served_model import ServedModel, in_thread


async def models(request: Request) -> Response:
    """GET /v1/models: the one model."""
    return JSONResponse({"object": "list", "data": [_model(model_of(request))]})


async def one_model(request: Request) -> Response:
    """GET /v1/models/{name}."""
    model = model_of(request)
    _check_model(request.path_params["name"], model)
    return JSONResponse(_model(model))


async def completions(request: Request) -> Response:
    """POST /v1/completions."""
    # SillyTavern's KoboldCpp type sends KoboldCpp's names here.
    fields, model = renamed(await read_fields(request)), model_of(request)
    _check_model(fields.text("model"), model)
    if fields.text("suffix"):
        wrong("suffix", "left out: this model only continues texts")
    n, wanted = _count(fields), await in_thread(_plain_wanted, fields, model)
    echo = ""
    if fields.flag("echo"):
        echo = b"".join(map(model.vocabulary.piece, wanted[0].prompt)).decode(errors="replace")
    shape = Shape(False, model.name, model.vocabulary, n)
    return await _answered(request, fields, wanted, shape, echo)


async def chat_completions(request: Request) -> Response:
    """POST /v1/chat/completions."""
    fields, model = await read_fields(request), model_of(request)
    _check_model(fields.text("model"), model)
    n, (wanted, begun) = _count(fields), await in_thread(_chat_wanted, fields, model)
    shape = Shape(True, model.name, model.vocabulary, n, begun)
    return await _answered(request, fields, [wanted] * n, shape, "")


async def input_tokens(request: Request) -> Response:
    """POST /v1/chat/completions/input_tokens: how many tokens a chat's prompt has."""
    fields, model = await read_fields(request), model_of(request)

    def count() -> int:
        return len(model.vocabulary.prompt(model.render(turns_of(fields))))

    return JSONResponse({"input_tokens": await in_thread(count)})


async def _answered(
    request: Request, fields: Fields, wanted: list[Completion], shape: Shape, echo: str
) -> Response:
    if not fields.flag("stream"):
        return JSONResponse(shape.whole(await collected(request, wanted), echo))
    offsets: dict[int, int] = {}
    begun = shape.begun
    reasoning = [] if begun is None else [Reasoning(begun) for _ in wanted]
    has_usage = fields.table("stream_options").flag("include_usage")

    def event(index: int, item: Token | Finished) -> str:
        first = ""
        if index not in offsets:
            offsets[index] = len(echo)
            first = data(shape.opening(index, echo)) if shape.is_chat or echo else ""
        if isinstance(item, Finished):
            rest = reasoning[index].end() if reasoning else None
            return first + data(shape.end(index, item, rest))
        offset = offsets[index]
        offsets[index] += len(item.text)
        delta = (reasoning[index].feed(item.text) or {"content": ""}) if reasoning else None
        return first + data(shape.token(index, item, offset, delta))

    def end(done: list[Finished]) -> str:
        totals = data(shape.totals(done)) if has_usage and done else ""
        return f"{totals}data: [DONE]\n\n"

    return streamed(request, wanted, event, openai_form, end)


def _plain_wanted(fields: Fields, model: ServedModel) -> list[Completion]:
    """The answers to all prompts of a request. Raises RequestError, SamplingError, BanError."""
    settings = _settings(fields, model, _plain_probs(fields))
    prompts = [prompt_of(prompt, model) for prompt in _prompts(fields)]
    return [replace(settings, prompt=one) for one in prompts for _ in range(_count(fields))]


def _chat_wanted(fields: Fields, model: ServedModel) -> tuple[Completion, str | None]:
    """The next answer of a chat, and the text before it, see `reasoning_begun`.

    Raises RequestError, PromptError, SamplingError, BanError.
    """
    turns, settings = turns_of(fields), _settings(fields, model, _chat_probs(fields))
    text = model.render(turns)
    begun = reasoning_begun(fields, text if turns.has_answer else "", turns.prefix)
    prompt, stops = model.prompt(text), (*settings.stops, *model.chat.template.stops)
    wanted = replace(settings, prompt=prompt, stops=stops, is_trimmed=not turns.prefix)
    return wanted, begun


def _settings(fields: Fields, model: ServedModel, n_probs: int | None) -> Completion:
    """Everything in a request but its prompt. Raises RequestError, SamplingError, BanError."""
    names = ("max_completion_tokens", "max_tokens", "n_predict")
    given = next((name for name in names if fields.given(name)), None)
    sampling = sampling_of(fields, model.chat.sampling, model.vocabulary)
    model.engine.check_grammar(sampling)
    if fields.members.get("tool_choice") not in (None, "none", "auto"):
        wrong("tool_choice", "none or auto: this server calls no tools")
    return Completion(
        (),
        sampling,
        model.limit(fields.whole(given, -1) if given else None),
        stops_of(fields),
        banned_of(fields, model.chat.banned),
        n_probs,
    )


def _chat_probs(fields: Fields) -> int | None:
    if not fields.flag("logprobs"):
        return None
    return fields.within("top_logprobs", 0, 0, MAX_PROBS)


def _plain_probs(fields: Fields) -> int | None:
    """`logprobs` is a number here, but llama.cpp's clients send its `n_probs`."""
    if isinstance(fields.members.get("logprobs"), bool) or not fields.given("logprobs"):
        return fields.within("n_probs", 0, 0, MAX_PROBS) or None
    return fields.within("logprobs", 0, 0, MAX_PROBS)


def _prompts(fields: Fields) -> list[object]:
    """A text, token ids, or a list of one of the two."""
    found = fields.members.get("prompt")
    if not fields.given("prompt"):
        wrong("prompt", "given, as a text or tokens")
    if isinstance(found, list) and found and all(isinstance(one, str | list) for one in found):
        if len(found) > MAX_ANSWERS:
            wrong("prompt", f"at most {MAX_ANSWERS} prompts")
        return found
    return [found]


def _count(fields: Fields) -> int:
    return fields.within("n", 1, 1, MAX_ANSWERS)


def _check_model(name: str, model: ServedModel) -> None:
    """Raise RequestError if a request wants another model than the one that is served."""
    if name and name.lower().removesuffix(".gguf") != model.name.lower():
        raise RequestError(
            f"there is no model {name[:100]!r} here; this server has {model.name!r}",
            status=404,
            field="model",
            code="model_not_found",
        )


def _model(model: ServedModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.started,
        "owned_by": "franken-gguf",
        "meta": {
            "n_vocab": model.vocabulary.size,
            "n_ctx": model.engine.n_ctx,
            "n_ctx_train": model.trained_ctx,
        },
    }


ROUTES = [
    Route("/v1/models", models),
    Route("/models", models),
    Route("/v1/models/{name:path}", one_model),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/chat/completions/input_tokens", input_tokens, methods=["POST"]),
    Route("/chat/completions/input_tokens", input_tokens, methods=["POST"]),
]
