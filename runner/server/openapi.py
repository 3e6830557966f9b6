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

_TEXT, _FLAG, _WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_TEXTS = {"type": "array", "items": _TEXT}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_OBJECT = {"type": "object"}
_PROMPT = {"oneOf": [_TEXT, _IDS, _TEXTS]}
_STOP = {"oneOf": [_TEXT, _TEXTS]}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "user", "assistant"]},
            "content": _TEXT,
        },
        "required": ["role", "content"],
    },
}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 32}
_STREAMED = {"stream": _FLAG, "n": _COUNT, "stop": _STOP, "banned_strings": _TEXTS}
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


def _bodies() -> dict[str, dict[str, Any]]:
    """By path, the properties of a POST's body; the required ones are marked."""
    sampling = sampling_properties()
    biased = {**sampling, "logit_bias": {}, "samplers": _TEXTS, "ignore_eos": _FLAG}
    answer = {**biased, **_STREAMED, **_GUIDED}
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
        "grammar": _TEXT,
        "genkey": _TEXT,
        **kobold,
    }
    story_answer = {
        "action": {"enum": ["ask", "again", "continue", "speak", "instead"]},
        "text": _TEXT,
        "begun": _TEXT,
        "speaker": _TEXT,
        "sampling": {"type": "object", "properties": sampling},
        "bans": _TEXTS,
        "max_tokens": _WHOLE,
        "revision": _TEXT,
    }
    completion = {"prompt": _PROMPT, "n_predict": _WHOLE, "n_probs": _PROBS, **answer}
    limits = {"model": _TEXT, "max_tokens": _WHOLE, "stream_options": _OBJECT}
    return {
        "/completion": completion,
        "/completions": completion,
        "/tokenize": {"content": _TEXT, "add_special": _FLAG, "parse_special": _FLAG},
        "/detokenize": {"tokens": _IDS},
        "/apply-template": {"messages": _MESSAGES},
        "/v1/completions": {
            "prompt": _PROMPT,
            "echo": _FLAG,
            "logprobs": _PROBS,
            **limits,
            **answer,
        },
        "/v1/chat/completions": {
            "messages": _MESSAGES,
            "logprobs": _FLAG,
            "top_logprobs": _PROBS,
            **limits,
            **answer,
        },
        "/api/v1/generate": generate,
        "/api/extra/generate/stream": generate,
        "/api/extra/tokencount": {"prompt": _TEXT, "special": _FLAG},
        "/api/extra/detokenize": {"ids": _IDS},
        "/api/extra/json_to_grammar": {"schema": _OBJECT},
        "/api/stories": {"name": _TEXT, "system": _TEXT, "user": _TEXT, "cards": _TEXTS},
        "/api/stories/{name}/answer": story_answer,
        "/api/stories/{name}/messages": {"role": _TEXT, "text": _TEXT, "at": _WHOLE},
        "/api/stories/{name}/branch": {"at": _WHOLE, "name": _TEXT},
    }


_REQUIRED = {"prompt", "messages", "schema"}
_UPLOADS = ("/api/cards", "/api/lorebooks", "/api/stories/import")
_REFUSED = {"description": "The request is refused; the body says why."}


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document of all `routes`."""
    bodies, paths = _bodies(), dict[str, dict[str, Any]]()
    for route in routes:
        if not isinstance(route, Route) or not route.include_in_schema:
            continue
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            item = paths.setdefault(path, {})
            item[method.lower()] = _operation(route, path, method, bodies.get(path, {}))
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
    return JSONResponse(document(request.app.routes))


def _operation(route: Route, path: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
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
    if method in ("POST", "PUT", "PATCH"):
        kind = "application/octet-stream" if path in _UPLOADS else "application/json"
        schema: dict[str, Any] = {"type": "object", "properties": body}
        if needed := sorted(_REQUIRED & body.keys()):
            schema["required"] = needed
        content = {"schema": {} if path in _UPLOADS else schema}
        operation["requestBody"] = {"content": {kind: content}}
    return operation


ROUTES = [Route("/openapi.json", show)]
