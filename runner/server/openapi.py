"""The OpenAPI document of the server, at /openapi.json: its paths, and what bodies they take."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from franken_gguf.runner.sampling.setting_meanings import MEANINGS
from franken_gguf.runner.sampling.settings import RANGES, Sampling

from .answering import model_of

_TEXT, _FLAG, _WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_INDEX = {"type": "integer", "minimum": 0}
_TEXTS = {"type": ["string", "array"], "items": _TEXT}
_OBJECT = {"type": "object"}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
            "content": {"type": ["string", "null"]},
        },
        "required": ["role"],
    },
}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 32}
_STREAMED = {"stream": _FLAG, "n": _COUNT, "stop": _TEXTS, "banned_strings": _TEXTS}
_GUIDED = {"grammar": _TEXT, "json_schema": _OBJECT, "response_format": _OBJECT}
_PROBS = {"type": "integer", "minimum": 0, "maximum": 1000}


def sampling_properties() -> dict[str, Any]:
    """The JSON schema of each sampling setting."""
    found: dict[str, Any] = {}
    for field in fields(Sampling):
        kind = type(getattr(Sampling, field.name))
        if field.name not in MEANINGS or kind is tuple:
            continue
        schema: dict[str, Any] = {"type": "integer" if kind is int else "number"}
        if field.name in RANGES:
            schema["minimum"], schema["maximum"] = RANGES[field.name]
        if field.name == "seed":
            schema["minimum"] = -1
        found[field.name] = {**schema, "description": MEANINGS[field.name]}
    return found


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object; null is the default of all properties that are not required."""
    described = {
        name: schema if name in required else {"anyOf": [schema, {"type": "null"}]}
        for name, schema in properties.items()
    }
    found = {"type": "object", "properties": described}
    return {**found, "required": list(required)} if required else found


def _biases() -> dict[str, Any]:
    """logit_bias, in all its forms; ids that the model has not are ignored."""
    amount = {"anyOf": [{"type": ["number", "null"]}, {"const": False}]}
    pair = {
        "type": "array",
        "prefixItems": [{"type": ["integer", "string"]}, amount],
        "minItems": 2,
        "maxItems": 2,
    }
    by_name = {"type": "object", "additionalProperties": amount, "maxProperties": 1000}
    return {"oneOf": [{"type": "array", "items": pair, "maxItems": 1000}, by_name]}


def _bodies(n_vocab: int) -> dict[str, dict[str, Any]]:
    """What a path takes, by the path, or by method and path where a path takes different things."""
    sampling = sampling_properties()
    token = {"type": "integer", "minimum": 0, "maximum": n_vocab - 1}
    ids = {"type": "array", "items": token}
    prompt = {"oneOf": [_TEXT, ids, {"type": "array", "items": _TEXT, "minItems": 1}]}
    biased = {"logit_bias": _biases(), "samplers": _TEXTS, "ignore_eos": _FLAG}
    answer = {**sampling, **biased, **_STREAMED, **_GUIDED}
    kobold = {
        name: schema
        for name, schema in sampling.items()
        if name not in ("repeat_penalty", "repeat_last_n", "typical_p", "top_n_sigma", "seed")
    }
    generate = {
        "prompt": _TEXT,
        "memory": _TEXT,
        "max_length": {"type": "integer", "minimum": 1},
        "max_context_length": {"type": "integer", "minimum": 2},
        "stop_sequence": _TEXTS,
        "sampler_order": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 6},
        },
        "rep_pen": sampling["repeat_penalty"],
        "rep_pen_range": sampling["repeat_last_n"],
        "typical": sampling["typical_p"],
        "nsigma": sampling["top_n_sigma"],
        "sampler_seed": sampling["seed"],
        "banned_tokens": _TEXTS,
        "custom_token_bans": _TEXT,
        "logit_bias": biased["logit_bias"],
        "logprobs": _FLAG,
        "grammar": _TEXT,
        "genkey": _TEXT,
        **kobold,
    }
    story_answer = {
        "action": {"enum": ["ask", "again", "continue", "speak", "instead"]},
        "text": _TEXT,
        "begun": _TEXT,
        "speaker": _TEXT,
        "sampling": _object(sampling),
        "bans": _TEXTS,
        "max_tokens": _WHOLE,
    }
    limits = {"model": _TEXT, "max_tokens": _WHOLE, "stream_options": _OBJECT}
    native = {"n_predict": _WHOLE, "n_probs": _PROBS, "response_fields": _TEXTS}
    completion = _object({"prompt": prompt, "return_tokens": _FLAG, **native, **answer}, "prompt")
    turns = {
        "messages": _MESSAGES,
        "add_generation_prompt": _FLAG,
        "continue_final_message": _FLAG,
    }
    probs = {"logprobs": _FLAG, "top_logprobs": _PROBS}
    chat = _object({**turns, **probs, **limits, **answer}, "messages")
    plain = {"prompt": prompt, "echo": _FLAG, "logprobs": _PROBS, **limits, **answer}
    counted = _object({"prompt": _TEXT, "special": _FLAG})
    message = {"role": {"enum": ["user", "assistant", "note"]}, "text": _TEXT, "name": _TEXT}
    texts = dict.fromkeys(("name", "system", "user", "persona"), _TEXT)
    facts = {**texts, "cards": _TEXTS, "lorebooks": _TEXTS}
    note = _object({"text": _TEXT, "depth": {"type": "integer", "minimum": 0, "maximum": 9999}})
    revised = {"revision": _TEXT}
    messages, one = "/api/stories/{name}/messages", "/api/stories/{name}/messages/{place}"
    all_messages = {"type": "array", "items": _object(message)}
    return {
        "/completion": completion,
        "/completions": completion,
        "/tokenize": _object({"content": _TEXT, "add_special": _FLAG, "parse_special": _FLAG}),
        "/detokenize": _object({"tokens": ids}),
        "/apply-template": _object(turns, "messages"),
        "/v1/completions": _object(plain, "prompt"),
        "/v1/chat/completions": chat,
        "/chat/completions": chat,
        "/v1/chat/completions/input_tokens": _object(turns, "messages"),
        "/chat/completions/input_tokens": _object(turns, "messages"),
        "/api/v1/generate": _object(generate),
        "/api/latest/generate": _object(generate),
        "/api/extra/generate/stream": _object(generate),
        "/api/extra/tokencount": counted,
        "/api/extra/tokenize": counted,
        "/api/extra/detokenize": _object({"ids": ids}),
        "/api/extra/json_to_grammar": _object({"schema": _OBJECT}, "schema"),
        "/api/extra/abort": _object({"genkey": _TEXT}),
        "/api/extra/generate/check": _object({"genkey": _TEXT}),
        "/api/extra/last_logprobs": _object({"genkey": _TEXT}),
        "/api/stories": _object(facts),
        "PATCH /api/stories/{name}": _object({**facts, "memory": _TEXT, "note": note, **revised}),
        "/api/stories/{name}/answer": _object({**story_answer, **revised}),
        "/api/stories/{name}/round": _object({**story_answer, **revised}),
        "/api/stories/{name}/round/choice": _object(
            {"id": _TEXT, "choice": {"enum": ["first", "second", "equal"]}}, "id", "choice"
        ),
        f"POST {messages}": _object({**message, "at": _INDEX, **revised}),
        f"PUT {messages}": _object({"messages": all_messages, **revised}),
        f"PATCH {one}": _object({"text": _TEXT, "swipe": _INDEX, **revised}),
        "/api/stories/{name}/branch": _object({"at": _INDEX, "name": _TEXT}),
    }


_UPLOADS = ("/api/cards", "/api/lorebooks", "/api/stories/import")
_REFUSED = {"description": "The request is refused; the body says why."}


def document(routes: Iterable[BaseRoute], n_vocab: int) -> dict[str, Any]:
    """The document of all `routes`, for a model with `n_vocab` tokens."""
    bodies, paths = _bodies(n_vocab), dict[str, dict[str, Any]]()
    for route in routes:
        if not isinstance(route, Route) or not route.include_in_schema:
            continue
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            item = paths.setdefault(path, {})
            body = bodies.get(f"{method} {path}", bodies.get(path))
            item[method.lower()] = _operation(route, path, method, body)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "franken-gguf serve",
            "version": version("franken-gguf"),
            "description": "A model and its stories; unknown fields are ignored.",
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
        "paths": paths,
    }


async def show(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(document(request.app.routes, model_of(request).vocabulary.size))


def _operation(route: Route, path: str, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
    purpose = (route.endpoint.__doc__ or "").splitlines()
    operation: dict[str, Any] = {
        "summary": purpose[0] if purpose else path,
        "responses": {"2XX": {"description": "The answer."}, "4XX": _REFUSED, "5XX": _REFUSED},
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "integer", "minimum": 0} if kind == ":int" else _TEXT,
            }
            for name, kind in re.findall(r"{(\w+)(:\w+)?}", route.path)
        ],
    }
    if method == "POST" and path in _UPLOADS:
        content: dict[str, Any] = {"application/octet-stream": {"schema": {}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif method in ("POST", "PUT", "PATCH") and body is not None:
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": "required" in body, "content": content}
    return operation


ROUTES = [Route("/openapi.json", show)]
