"""The model's thread: a request that is not streamed gives way to a streamed one of its client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from franken_gguf.runner.server.model_thread import ModelThread, Ticket

T = TypeVar("T")


@asynccontextmanager
async def working(
    stop: threading.Event, kind: type[ModelThread] = ModelThread
) -> AsyncIterator[ModelThread]:
    """A thread that runs, and whose engine would end by `stop`."""
    thread = kind(stop, lambda: None)
    thread.start()
    try:
        yield thread
    finally:
        thread.end()
        await asyncio.to_thread(thread.join)


async def collected(ticket: Ticket[T]) -> list[T]:
    return [item async for item in ticket]


def finished(work: Coroutine[Any, Any, T]) -> T:
    # In another thread: a browser's fixture may have an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_before_its_first_token_it_starts_again_afterwards() -> None:
    stop, reading, order = threading.Event(), threading.Event(), []

    def title() -> Generator[str, None, None]:
        order.append("title")
        if len(order) == 1:
            reading.set()
            assert stop.wait(30)  # as an evaluation that is aborted
            yield "interrupted"
            return
        yield "a title"

    def answer() -> Generator[str, None, None]:
        order.append("answer")
        yield "an answer"

    async def both() -> list[list[str]]:
        async with working(stop) as thread:
            first = thread.submit(title, "one client", is_streamed=False)
            await asyncio.to_thread(reading.wait, 30)
            second = thread.submit(answer, "one client")
            return [await collected(first), await collected(second)]

    assert finished(both()) == [["a title"], ["an answer"]]
    assert order == ["title", "answer", "title"]


def test_another_clients_request_waits_for_its_turn() -> None:
    stop, begun, order = threading.Event(), threading.Event(), []

    def title() -> Generator[int, None, None]:
        for number in range(3):
            begun.set()
            order.append("title")
            yield number

    def answer() -> Generator[int, None, None]:
        order.append("answer")
        yield 0

    async def both() -> list[list[int]]:
        async with working(stop) as thread:
            first = thread.submit(title, "one client", is_streamed=False)
            second = thread.submit(answer, "another")
            return [await collected(first), await collected(second)]

    assert finished(both()) == [[0, 1, 2], [0]]
    assert order == ["title", "title", "title", "answer"]


def test_a_request_whose_end_is_seen_is_no_longer_running_and_counts() -> None:
    class Slow(ModelThread):
        """Takes its time to note that nothing runs."""

        def __setattr__(self, name: str, value: object) -> None:
            if name == "running" and value is None:
                time.sleep(0.05)
            super().__setattr__(name, value)

    def work() -> Generator[int, None, None]:
        yield 1

    async def one() -> tuple[list[int], bool, int]:
        async with working(threading.Event(), Slow) as thread:
            items = await collected(thread.submit(work, "one client"))
            return items, thread.running is None, thread.served

    assert finished(one()) == ([1], True, 1)
