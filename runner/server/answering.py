"""What all dialects do with a request: who asks, the answers run, streamed or collected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from franken_gguf.quantize.common.errors import FrankenError

from .completing import Completion, Finished, Token
from .event_stream import EventStream, cancel, data, items, unless_disconnected
from .model_thread import Ticket
from .refusals import RequestError, as_request_error
from .served_model import ServedModel

ErrorForm = Callable[[RequestError], dict[str, Any]]
Answered = tuple[list[Token], Finished]
_Ticket = Ticket[Token | Finished]


def model_of(request: Request) -> ServedModel:
    """The model that the server of `request` answers with."""
    model: ServedModel = request.app.state.model
    return model


def client_of(request: Request) -> str:
    """Who sends a request, for the turns in the queue: an address and a program."""
    host = request.client.host if request.client else ""
    return f"{host} {request.headers.get('user-agent', '')}"


async def collected(request: Request, wanted: Sequence[Completion]) -> list[Answered]:
    """The answers to `wanted`. Raises what the model raised, and ClientDisconnect."""
    tickets = submit(request, wanted, is_streamed=False)

    async def collect() -> list[Answered]:
        return [await _whole(ticket) for ticket in tickets]

    found: list[Answered] = await unless_disconnected(request, tickets, collect())
    return found


def streamed(
    request: Request,
    wanted: Sequence[Completion],
    event: Callable[[int, Token | Finished], str],
    error_form: ErrorForm,
    end: Callable[[list[Finished]], str] = lambda _: "",
) -> Response:
    """The answers to `wanted` as server-sent events, those of one after those of another.

    `event` words each token and end, by the answer's index; `end` is what comes last.
    """
    tickets = submit(request, wanted)

    async def events() -> AsyncIterator[str]:
        done = []
        try:
            for index, ticket in enumerate(tickets):
                async for item in items(ticket):
                    if isinstance(item, Finished):
                        done.append(item)
                    yield item if isinstance(item, str) else event(index, item)
        except FrankenError as error:
            yield data(error_form(as_request_error(error)), "error")
            return
        yield end(done)

    return EventStream(tickets, events())


def submit(
    request: Request, wanted: Sequence[Completion], *, is_streamed: bool = True
) -> list[_Ticket]:
    """Queue `wanted`, all or none. Raises RequestError."""
    model, tickets = model_of(request), list[_Ticket]()
    try:
        for one in wanted:
            tickets.append(model.submit(one, client_of(request), is_streamed=is_streamed))
    except RequestError:
        cancel(tickets)
        raise
    return tickets


async def _whole(ticket: _Ticket) -> Answered:
    tokens: list[Token] = []
    async for item in ticket:
        if isinstance(item, Finished):
            return tokens, item
        tokens.append(item)
    raise RequestError("the request was stopped", status=499)


def refusal(form: ErrorForm) -> Callable[[Request, Exception], Response]:
    """What answers a FrankenError in a dialect's routes."""

    def answer(_: Request, error: Exception) -> Response:
        assert isinstance(error, FrankenError)
        found = as_request_error(error)
        headers = {"Retry-After": "5"} if found.status == 503 else None
        return JSONResponse(form(found), found.status, headers)

    return answer
