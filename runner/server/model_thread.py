"""The one thread that works with the model, and the queue of requests in front of it.

A client such as Open WebUI sends requests for a title, tags and questions beside the chat. So a
request that is not streamed gives way to a streamed one of the same client: before its first token
it starts again afterwards, later it continues.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.engine.interrupt import Stopped

from .fair_queue import FairQueue
from .refusals import RequestError

_MAX_WAITING = 256
_logger = logging.getLogger("uvicorn.error")
T = TypeVar("T")
Work = Callable[[], Generator[T, None, None]]


class Ticket(Generic[T]):
    """A request's place in the queue, then what its work yields, in the event loop's thread."""

    def __init__(self, owner: ModelThread, work: Work[T], client: str, is_streamed: bool) -> None:
        self.client = client
        self.work = work
        self.is_streamed = is_streamed
        self.is_cancelled = False
        self.is_displaced = False
        """Whether it is to start again, after a streamed request."""
        self.items: Generator[T, None, None] | None = None
        """What is left of the work; None before its start."""
        self.has_items = False
        """Whether it has yielded something."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()

    def position(self) -> int:
        """How many requests come before this one; 0 once it runs."""
        return self._owner.position(self)

    def cancel(self) -> None:
        """Stop the work soon, or never start it. May be called at any time, from any thread."""
        self._owner.cancel(self)

    async def next(self, seconds: float | None = None) -> T | None:
        """The next item; None after the last. Raises what the work raised, and TimeoutError."""
        with anyio.fail_after(seconds):
            item, error = await self._items.get()
        if error is not None:
            raise error
        return item

    async def __aiter__(self) -> AsyncIterator[T]:
        while (item := await self.next()) is not None:
            yield item

    def restart(self) -> None:
        """Begin the work again, which has yielded nothing yet."""
        self.is_displaced = False
        self.close()

    def close(self) -> None:
        """End the work where it is."""
        if self.items is not None:
            self.items.close()
            self.items = None

    def deliver(self, item: T | None, error: BaseException | None = None) -> None:
        """Hand an item over from the model's thread: None is the end."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, (item, error))
        except RuntimeError:  # the event loop has ended
            self.is_cancelled = True


class ModelThread:
    """Runs the work of all requests in one thread, one after the other, clients taking turns.

    `stop` is the engine's: once set, the running work ends soon and in good order.
    """

    def __init__(self, stop: threading.Event, at_end: Callable[[], None]) -> None:
        self.running: Ticket[Any] | None = None
        self.served = 0
        """Number of requests that have run."""
        self._stop = stop
        self._at_end = at_end
        self._queue = FairQueue[Ticket[Any]](lambda ticket: ticket.is_streamed)
        self._changed = threading.Condition(threading.RLock())
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="model")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work[T], client: str, *, is_streamed: bool = True) -> Ticket[T]:
        """Queue `work`, a generator function. Raises RequestError if the queue is full.

        Without `is_streamed` the work must be one that may start again.
        """
        ticket = Ticket(self, work, client, is_streamed)
        with self._changed:
            if self._is_ending:
                raise RequestError("the server is shutting down", status=503)
            if len(self._queue) >= _MAX_WAITING:
                raise RequestError(
                    f"{_MAX_WAITING} requests are waiting already; try again later", status=503
                )
            self._queue.add(client, ticket)
            running = self.running
            if running and not running.has_items and self._gives_way(running):
                running.is_displaced = True
                self._stop.set()
            self._changed.notify()
        return ticket

    def waiting(self) -> list[Ticket[Any]]:
        """The queue, the next first."""
        with self._changed:
            return self._queue.in_order()

    def position(self, ticket: Ticket[Any]) -> int:
        """See Ticket."""
        with self._changed:
            waiting = self._queue.in_order()
            return waiting.index(ticket) + 1 if ticket in waiting else 0

    def cancel(self, ticket: Ticket[Any]) -> None:
        """See Ticket."""
        with self._changed:
            ticket.is_cancelled = True
            if self.running is ticket:
                self._stop.set()
            elif ticket.items is None and self._queue.remove(ticket):
                ticket.deliver(None)

    def cancel_all(self, client: str) -> bool:
        """Stop the running request of `client` and those that wait; False if it has none."""
        with self._changed:
            running = [self.running] if self.running else []
            own = [one for one in (*running, *self._queue.in_order()) if one.client == client]
            for ticket in own:
                self.cancel(ticket)
        return bool(own)

    def end(self) -> None:
        """Stop the running request, refuse the others; the thread ends soon after."""
        with self._changed:
            self._is_ending = True
            self._stop.set()
            self._changed.notify()

    def join(self) -> None:
        """Wait for the thread to end, after `end`."""
        self._thread.join()

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            is_done, error = self._serve(ticket)
            with self._changed:
                self.running = None
                if is_done:
                    self.served += 1
                else:
                    self._queue.add(ticket.client, ticket)
            if is_done:
                ticket.deliver(None, error)
        with self._changed:
            while (ticket := self._queue.next()) is not None:
                ticket.close()
                ticket.deliver(None, RequestError("the server is shutting down", status=503))
        self._at_end()

    def _next(self) -> Ticket[Any] | None:
        with self._changed:
            while not self._is_ending:
                if (ticket := self._queue.next()) is not None:
                    self.running = ticket
                    self._stop.clear()
                    if ticket.is_cancelled:  # while it gave way
                        self._stop.set()
                    return ticket
                self._changed.wait()
            return None

    def _serve(self, ticket: Ticket[Any]) -> tuple[bool, BaseException | None]:
        """Whether the work ended, which it has not if the request gives way; and its error."""
        try:
            if ticket.items is None:
                ticket.items = ticket.work()
            for item in ticket.items:
                if self._starts_again(ticket):
                    return False, None
                ticket.deliver(item)
                if ticket.is_cancelled:
                    self._stop.set()
                elif self._gives_way(ticket):
                    return False, None
        except FrankenError as error:
            return True, error
        except Stopped:
            pass
        except Exception as error:
            # Its message may hold a part of a story, so it is not logged.
            where = "".join(traceback.format_tb(error.__traceback__))
            _logger.error("%s in the model's thread:\n%s", type(error).__name__, where)
            return True, RequestError("internal error, see the log", status=500)
        return True, None

    def _starts_again(self, ticket: Ticket[Any]) -> bool:
        """Whether a streamed request has come before this one's first item, which is dropped."""
        with self._changed:
            ticket.has_items = not ticket.is_displaced or ticket.is_cancelled
            if not ticket.has_items:
                ticket.restart()
            return not ticket.has_items

    def _gives_way(self, ticket: Ticket[Any]) -> bool:
        if ticket.is_streamed:
            return False
        with self._changed:
            return self._queue.has_urgent(ticket.client)
