"""The ASGI app: routes of all dialects behind the guard, and the model's thread while it runs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
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
    kobold_api,
    library_api,
    llama_cpp_api,
    openai_api,
    openapi,
    page_files,
    story_api,
)
from .answering import ErrorForm, refusal
from .guard import Access, Guard
from .kept_states import KeptStates
from .library import Library
from .model_thread import ModelThread, Ticket
from .refusals import RequestError, kobold_form, llama_form, openai_form
from .served_model import ServedModel
from .stories import Stories
from .story_answers import Event

DEFAULT_RAM, DEFAULT_DISK = 1 << 30, 4 << 30


def serve_app(
    chat: Chat,
    *,
    name: str = "",
    access: Access | None = None,
    sessions: Sessions | None = None,
    cache: Path | None = None,
    cache_ram: int = DEFAULT_RAM,
    cache_disk: int = DEFAULT_DISK,
) -> Starlette:
    """The app that serves `chat`'s model, with its sampling, bans and limit as defaults.

    The app owns the chat from now on, and closes it when it ends. `name` is what clients call the
    model, by default its file's name. Stories are those of `sessions`, by default the user's; cards
    and lorebooks are kept beside that folder. Evaluated contexts are kept in up to `cache_ram`
    bytes of memory and `cache_disk` bytes of the folder `cache`, by default the user's cache.
    """
    access = access or Access()
    model = served(chat, name, cache or context_folder(), cache_ram, cache_disk)
    app = Starlette(
        routes=[
            *llama_cpp_api.ROUTES,
            *openai_api.ROUTES,
            *kobold_api.ROUTES,
            *story_api.ROUTES,
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
    sessions = sessions or Sessions()
    library = Library(sessions.folder.parent)
    app.state.stories = Stories(sessions, library, model.name, chat.conversation.system)
    app.state.story_tickets = WeakValueDictionary[str, Ticket[Event]]()
    app.state.kobold_answers = kobold_api.Answers()
    return app


def served(chat: Chat, name: str, cache: Path, cache_ram: int, cache_disk: int) -> ServedModel:
    """The chat's model with a thread and kept contexts of its own; the thread is not started."""
    engine = chat.engine
    kept = KeptStates(engine, cache, cache_ram, cache_disk)
    engine.recall = kept.take_up

    def at_end() -> None:
        kept.save()
        chat.close()

    thread = ModelThread(engine.stop, at_end)
    name = name or engine.header.path.stem
    return ServedModel(chat, name, thread, kept, int(time.time()))


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
