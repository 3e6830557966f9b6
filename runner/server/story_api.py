"""The JSON interface for stories, of which the page is made: docs/serving-api.md."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.prompt_parts import prompt_parts
from franken_gguf.runner.conversation.session import MAX_BYTES
from franken_gguf.runner.sampling.sampling_presets import presets
from franken_gguf.runner.sampling.setting_meanings import setting_ranges
from franken_gguf.runner.sampling.settings import SAMPLERS
from franken_gguf.runner.story.persona import persona_names

from .answering import client_of, model_of
from .bodies import Fields, read_body, read_fields
from .event_stream import EventStream, data
from .llama_cpp_shapes import sampling_settings
from .model_thread import Ticket
from .refusals import as_request_error, llama_form
from .served_model import in_thread
from .stories import Stories
from .story_answers import Event, answer_events, asked, story_chat

_POLL_SECONDS = 1.0
_MEDIA = {"md": "text/markdown", "txt": "text/plain", "html": "text/html"}


def stories_of(request: Request) -> Stories:
    """The stories of the server that answers `request`."""
    found: Stories = request.app.state.stories
    return found


async def desk(request: Request) -> Response:
    """GET /api/desk: what the page needs to know of the server."""
    model, rounds = model_of(request), request.app.state.rounds
    return JSONResponse(
        {
            "model": model.name,
            "n_ctx": model.engine.n_ctx,
            "max_tokens": model.chat.max_tokens,
            "has_experts": model.engine.captures_routing,
            "expert_names": list(model.chat.expert_names),
            "sampling": sampling_settings(model.chat.sampling),
            "settings": setting_ranges(),
            "samplers": list(SAMPLERS),
            "presets": await in_thread(presets),
            "personas": await in_thread(persona_names),
            "bans": list(model.chat.banned.phrases),
            "choices": (await in_thread(rounds.result)).choices if rounds else None,
            "version": version("franken-gguf"),
        }
    )


async def list_stories(request: Request) -> Response:
    """GET /api/stories."""
    return JSONResponse({"stories": await in_thread(stories_of(request).all)})


async def begin_story(request: Request) -> Response:
    """POST /api/stories."""
    stories = stories_of(request)
    name = await in_thread(stories.begin, await read_fields(request))
    return JSONResponse(await in_thread(stories.view, name), 201)


async def import_story(request: Request) -> Response:
    """POST /api/stories/import."""
    stories = stories_of(request)
    content = await read_body(request, MAX_BYTES)
    wanted = request.query_params.get("name", "") or "Imported"
    name = await in_thread(stories.add_file, content, wanted.removesuffix(".jsonl"))
    return JSONResponse(await in_thread(stories.view, name), 201)


async def show_story(request: Request) -> Response:
    """GET /api/stories/{name}."""
    return JSONResponse(await in_thread(stories_of(request).view, _name(request)))


async def change_story(request: Request) -> Response:
    """PATCH /api/stories/{name}."""
    stories = stories_of(request)
    name = await in_thread(stories.set_facts, _name(request), await read_fields(request))
    return JSONResponse(await in_thread(stories.view, name))


async def delete_story(request: Request) -> Response:
    """DELETE /api/stories/{name}."""
    await in_thread(stories_of(request).delete, _name(request))
    return Response(status_code=204)


async def export_story(request: Request) -> Response:
    """GET /api/stories/{name}/export."""
    form = request.query_params.get("form", "md")
    text = await in_thread(stories_of(request).export, _name(request), form)
    return Response(
        text.encode(errors="replace"),
        media_type=f"{_MEDIA.get(form, 'application/jsonl')}; charset=utf-8",
        # A page of the model's words must not run in this origin.
        headers={"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"},
    )


async def add_message(request: Request) -> Response:
    """POST /api/stories/{name}/messages."""
    change = stories_of(request).add_message
    return await _changed(request, partial(change, _name(request), await read_fields(request)))


async def replace_messages(request: Request) -> Response:
    """PUT /api/stories/{name}/messages."""
    change = stories_of(request).replace_messages
    return await _changed(request, partial(change, _name(request), await read_fields(request)))


async def change_message(request: Request) -> Response:
    """PATCH /api/stories/{name}/messages/{place}."""
    change, place = stories_of(request).change_message, request.path_params["place"]
    fields = await read_fields(request)
    return await _changed(request, partial(change, _name(request), place, fields))


async def remove_message(request: Request) -> Response:
    """DELETE /api/stories/{name}/messages/{place}."""
    change, place = stories_of(request).remove_message, request.path_params["place"]
    has_rest = request.query_params.get("rest") == "true"
    fields = Fields(dict(request.query_params))
    return await _changed(
        request, partial(change, _name(request), place, fields, has_rest=has_rest)
    )


async def branch_story(request: Request) -> Response:
    """POST /api/stories/{name}/branch."""
    stories = stories_of(request)
    name = await in_thread(stories.branch, _name(request), await read_fields(request))
    return JSONResponse(await in_thread(stories.view, name), 201)


async def answer(request: Request) -> Response:
    """POST /api/stories/{name}/answer: a stream of events."""
    model, stories, name = model_of(request), stories_of(request), _name(request)
    wanted = await in_thread(asked, await read_fields(request), model)
    await in_thread(stories.read, name)
    work = partial(answer_events, model, stories, stories.sessions, name, wanted)
    ticket = model.thread.submit(work, client_of(request))
    found = EventStream([ticket], _events(ticket))
    request.app.state.story_streams[name] = found
    return found


async def stop(request: Request) -> Response:
    """POST /api/stories/{name}/stop."""
    running: EventStream | None = request.app.state.story_streams.get(_name(request))
    if running is not None:
        running.stop()
    return Response(status_code=204)


async def prompt(request: Request) -> Response:
    """GET /api/stories/{name}/prompt."""
    model, conversation = (
        model_of(request),
        await in_thread(stories_of(request).read, _name(request)),
    )

    def parts() -> dict[str, Any]:
        chat = story_chat(model)
        Dialogue(chat, model.name, stories_of(request).sessions).switch_to(None, conversation)
        return asdict(prompt_parts(chat))

    return JSONResponse(await in_thread(parts))


async def _events(ticket: Ticket[Event]) -> AsyncIterator[str]:
    place = -1
    try:
        while True:
            try:
                item = await ticket.next(_POLL_SECONDS)
            except TimeoutError:
                if (now := ticket.position()) != place:
                    yield data({"position": now}, "queue")
                else:
                    yield ": still here\n\n"
                place = now
                continue
            if item is None:
                return
            name, content = item
            yield data(content, name)
    except FrankenError as error:
        yield data(llama_form(as_request_error(error)), "error")


async def _changed(request: Request, change: Any) -> Response:
    await in_thread(change)
    return JSONResponse(await in_thread(stories_of(request).view, _name(request)))


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


_STORY = "/api/stories/{name}"
_MESSAGE = _STORY + "/messages/{place:int}"
ROUTES = [
    Route("/api/desk", desk),
    Route("/api/stories", list_stories, methods=["GET"]),
    Route("/api/stories", begin_story, methods=["POST"]),
    Route("/api/stories/import", import_story, methods=["POST"]),
    Route(_STORY, show_story, methods=["GET"]),
    Route(_STORY, change_story, methods=["PATCH"]),
    Route(_STORY, delete_story, methods=["DELETE"]),
    Route(_STORY + "/export", export_story),
    Route(_STORY + "/prompt", prompt),
    Route(_STORY + "/branch", branch_story, methods=["POST"]),
    Route(_STORY + "/answer", answer, methods=["POST"]),
    Route(_STORY + "/stop", stop, methods=["POST"]),
    Route(_STORY + "/messages", add_message, methods=["POST"]),
    Route(_STORY + "/messages", replace_messages, methods=["PUT"]),
    Route(_MESSAGE, change_message, methods=["PATCH"]),
    Route(_MESSAGE, remove_message, methods=["DELETE"]),
]
