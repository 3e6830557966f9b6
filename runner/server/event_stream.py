"""Answers over HTTP: as they come or whole; a client that goes away stops the work."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .model_thread import Ticket

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_POLL_SECONDS = 1.0
_ALIVE_SECONDS = 15
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def data(value: object, event: str = "") -> str:
    """A server-sent event that carries `value` as JSON."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {_encode(value)}\n\n"


class EventStream(StreamingResponse):
    """A response of server-sent `events`. Cancels `tickets` if the client goes away."""

    def __init__(self, tickets: Sequence[Ticket[Any]], events: AsyncIterator[str]) -> None:
        waiting = {"X-Queue-Position": str(tickets[0].position())} if tickets else {}
        headers = {**_HEADERS, **waiting}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._tickets = tickets

    def stop(self) -> None:
        """End the work soon; what it has done is still sent."""
        cancel(self._tickets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stop()


async def items(ticket: Ticket[T]) -> AsyncIterator[T | str]:
    """What `ticket` yields. While it waits, comments (as texts) that tell its place in the queue.

    A comment comes whenever the place has changed, and every 15 seconds, which keeps proxies from
    closing the connection.
    """
    place, quiet = -1, 0.0
    while True:
        try:
            item = await ticket.next(_POLL_SECONDS)
        except TimeoutError:
            quiet += _POLL_SECONDS
            if (now := ticket.position()) != place or quiet >= _ALIVE_SECONDS:
                place, quiet = now, 0.0
                yield f": {place} before you\n\n" if place else ": reading the prompt\n\n"
            continue
        if item is None:
            return
        yield item


async def unless_disconnected(request: Request, tickets: Iterable[Ticket[Any]], work: Any) -> Any:
    """The result of the coroutine `work`; cancels `tickets` if the client goes away before.

    Raises ClientDisconnect then.
    """
    result: list[Any] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            result.append(await work)
        except BaseException as error:
            cancel(tickets)
            if not isinstance(error, Exception):
                raise
            result.append(error)
        group.cancel_scope.cancel()
    if not result:
        raise ClientDisconnect
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


def cancel(tickets: Iterable[Ticket[Any]]) -> None:
    """Cancel all `tickets`; those that are done already stay so."""
    for ticket in tickets:
        ticket.cancel()
