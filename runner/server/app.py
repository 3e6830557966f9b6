"""The ASGI app: routes of all dialects behind the guard, and the model's thread while it runs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from platformdirs import user_cache_path
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.conversation.session import Sessions

from . import (
    blind_api,
    kobold_api,
    library_api,
    llama_cpp_api,
    openai_api,
    openapi,
    page_files,
    story_api,
    vote_file,
)
from .answering import ErrorForm, refusal
from .blind_rounds import BlindRounds
from .event_stream import EventStream
from .guard import Access, Guard
from .kept_states import KeptStates
from .library import Library
from .model_thread import ModelThread
from .refusals import RequestError, kobold_form, llama_form, openai_form
from .served_model import ServedModel
from .stories import Stories

DEFAULT_RAM, DEFAULT_DISK = 1 << 30, 4 << 30


def serve_app(
    chat: Chat,
    second: Chat | None = None,
    *,
    name: str = "",
    access: Access | None = None,
    sessions: Sessions | None = None,
    cache: Path | None = None,
    cache_ram: int = DEFAULT_RAM,
    cache_disk: int = DEFAULT_DISK,
) -> Starlette:
    """The app that serves `chat`'s model, with its sampling, bans and limit as defaults.

    `second` is for blind comparisons on the page alone; load both with the same `stop`. The app
    owns the chats from now on, and closes them when it ends. `name` is what clients call the model,
    by default its file's name. Stories are those of `sessions`, by default the user's; cards,
    lorebooks and votes are kept beside that folder. Evaluated contexts are kept in up to
    `cache_ram` bytes of memory and `cache_disk` bytes of the folder `cache`, by default the user's
    cache. Raises BlindError if both models are the same.
    """
    access, sessions = access or Access(), sessions or Sessions()
    chats = [chat, second] if second else [chat]
    model, *others = served(chats, name, cache or context_folder(), cache_ram, cache_disk)
    app = Starlette(
        routes=[
            *llama_cpp_api.ROUTES,
            *openai_api.ROUTES,
            *kobold_api.ROUTES,
            *story_api.ROUTES,
            *blind_api.ROUTES,
            *library_api.ROUTES,
            *openapi.ROUTES,
            *page_files.ROUTES,
        ],
        middleware=_middleware(access),
        exception_handlers={
            FrankenError: _refuse,
            HTTPException: _refuse_path,
            ClientDisconnect: lambda _, __: Response(status_code=499),
            500: _fail,
        },
        lifespan=_lifespan,
    )
    app.state.model = model
    app.state.access = access
    folder = sessions.folder.parent
    app.state.stories = Stories(sessions, Library(folder), model.name, chat.conversation.system)
    app.state.rounds = BlindRounds((model, others[0]), folder / vote_file.NAME) if others else None
    app.state.story_streams = WeakValueDictionary[str, EventStream]()
    app.state.kobold_answers = kobold_api.Answers()
    return app


def served(
    chats: Sequence[Chat], name: str, cache: Path, cache_ram: int, cache_disk: int
) -> list[ServedModel]:
    """The chats' models, with kept contexts of their own and one thread, which is not started.

    `name` is the first one's. One thread, because two models at once would share its cores.
    """
    kept = [KeptStates(one.engine, cache, cache_ram // len(chats), cache_disk) for one in chats]
    for chat, states in zip(chats, kept, strict=True):
        chat.engine.recall = states.take_up

    def at_end() -> None:
        for chat, states in zip(chats, kept, strict=True):
            states.save()
            chat.close()

    thread = ModelThread(chats[0].engine.stop, at_end)
    started = int(time.time())
    names = [name or chats[0].engine.header.path.stem]
    names += [one.engine.header.path.stem for one in chats[1:]]
    return [
        ServedModel(chat, name, thread, states, started)
        for chat, name, states in zip(chats, names, kept, strict=True)
    ]


def context_folder() -> Path:
    """Where evaluated contexts are kept, by the platform's custom."""
    return user_cache_path("franken-gguf", appauthor=False) / "contexts"


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    model: ServedModel = app.state.model
    model.thread.start()
    try:
        yield
    finally:
        model.thread.end()
        model.thread.join()


def _middleware(access: Access) -> list[Middleware]:
    guard = Middleware(Guard, access=access)
    if not access.origins:
        return [guard]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=access.origins,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    return [guard, cors]


def _form(request: Request) -> ErrorForm:
    """How the dialect of a request words errors."""
    path = request.url.path
    if path.startswith(("/api/v1/", "/api/extra/", "/api/latest/")):
        return kobold_form
    return openai_form if path.startswith("/v1/") else llama_form


def _refuse(request: Request, error: Exception) -> Response:
    return refusal(_form(request))(request, error)


def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = "there is nothing at this path" if error.status_code == 404 else error.detail
    found = RequestError(what, status=error.status_code)
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return JSONResponse(_form(request)(found), error.status_code, headers)


def _methods(request: Request) -> list[str]:
    """What a path answers: Starlette knows those of its first route alone."""
    routes = request.app.routes
    here = [one for one in routes if one.matches(request.scope)[0] != Match.NONE]
    return sorted({method for one in here for method in getattr(one, "methods", ())})


def _fail(request: Request, error: Exception) -> Response:
    found = RequestError("internal error, see the log", status=500)
    return JSONResponse(_form(request)(found), 500)
