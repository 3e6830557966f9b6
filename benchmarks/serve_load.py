"""A server under load: `PYTHONPATH=tests python benchmarks/serve_load.py [MODEL] [--seed N]`.

1,000 requests of mixed kinds from 16 connections, 100 of them broken off at random moments, to a
tiny model unless another is given. Prints
errors that are not the clients' (there must be none), the server's memory while it works (it must
be flat), and how long each connection waited. Connections 0 to 3 belong to one program, which is
one client in the queue: it waits four times as long as the others.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from support.servers import Server, parsed, serving
from support.tiny_model import tiny_gguf

REQUESTS, BROKEN_OFF, CONNECTIONS, OF_ONE_PROGRAM = 1000, 100, 16, 4
MEMORY_EVERY = 250
LONGEST_BREAK = 3.0  # seconds until a request is broken off
STORIES = 10
OPTIONS = ("-c", "2048", "--cache-ram", "2MiB", "--cache-disk", "8MiB", "-n", "64")


@dataclass(frozen=True)
class Kind:
    """A kind of request, and what is right about an answer."""

    path: str
    fields: Callable[[random.Random], dict[str, Any]]
    is_right: Callable[[Any], bool] = lambda _: True
    status: int = 200
    method: str = "POST"


def prompt(dice: random.Random) -> str:
    """The beginning of one of ten stories, of any length."""
    story = f"Story {dice.randrange(STORIES)}. "
    return story + "The keeper walked to the harbour and looked at the sea. " * dice.randrange(40)


def chat(dice: random.Random) -> list[dict[str, str]]:
    """A chat of one to five messages."""
    count = 1 + 2 * dice.randrange(3)
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": f"{n}: {prompt(dice)[:80]}"} for n in range(count)]


def streamed(events: list[tuple[str, Any]]) -> bool:
    """Whether a stream came to its end without an error."""
    return bool(events) and all(name != "error" for name, _ in events)


def native(**more: object) -> Callable[[random.Random], dict[str, Any]]:
    """Fields of /completion."""
    return lambda dice: {"prompt": prompt(dice), "n_predict": dice.randrange(64), **more}


KINDS = (
    Kind("/completion", native(), lambda one: one["stop"] is True),
    Kind("/completion", native(stream=True), streamed),
    Kind("/completion", native(stream=True, n_probs=5), streamed),
    Kind("/completion", native(n=3), lambda several: len(several) == 3),
    Kind("/completion", native(banned_strings=["the"]), lambda one: "the" not in one["content"]),
    Kind(
        "/completion",
        lambda dice: {"prompt": prompt(dice), "grammar": "root ::= [0-9] [0-9]"},
        lambda one: re.fullmatch("[0-9]{2}", one["content"]) is not None,
    ),
    Kind("/completion", lambda _: {"prompt": "word " * 3000}, status=400),
    Kind("/completion", lambda _: {"prompt": "x", "top_p": 7}, status=400),
    Kind(
        "/v1/chat/completions",
        lambda dice: {"messages": chat(dice), "max_tokens": 6},
        lambda found: found["usage"]["completion_tokens"] <= 6,
    ),
    Kind(
        "/v1/chat/completions",
        lambda dice: {"messages": chat(dice), "max_tokens": 6, "stream": True, "n": 2},
        lambda events: events[-1][1] == "[DONE]",
    ),
    Kind(
        "/v1/completions",
        lambda dice: {"prompt": [prompt(dice), prompt(dice)], "max_tokens": 6, "logprobs": 2},
        lambda found: len(found["choices"]) == 2,
    ),
    Kind(
        "/api/v1/generate",
        lambda dice: {"prompt": prompt(dice), "max_length": 8},
        lambda found: len(found["results"]) == 1,
    ),
    Kind(
        "/api/extra/generate/stream",
        lambda dice: {"prompt": prompt(dice), "max_length": 8, "memory": "Sea. "},
        streamed,
    ),
    Kind("/api/extra/abort", lambda _: {"genkey": "of another"}),
    Kind("/tokenize", lambda dice: {"content": prompt(dice)}, lambda found: bool(found["tokens"])),
    Kind("/apply-template", lambda dice: {"messages": chat(dice)}),
    Kind("/slots", lambda _: {}, lambda slots: len(slots) == 1, method="GET"),
)


@dataclass
class Load:
    """What the clients share, and what came of it."""

    server: Server
    left: list[int]
    """Numbers of requests, the next last."""
    broken_off: set[int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    waits: dict[int, list[float]] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    """MiB."""

    def next(self) -> int | None:
        """The number of the next request; None after the last."""
        with self.lock:
            if not self.left:
                return None
            number = self.left.pop()
            if number and number % MEMORY_EVERY == 0:
                self.memory.append(resident(self.server))
            return number

    def note(self, outcome: str, error: str = "") -> None:
        """Count an outcome."""
        with self.lock:
            self.statuses[outcome] += 1
            if error:
                self.errors.append(error)


def main() -> None:
    """Put a server under load and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    broken_off = set(random.Random(options.seed).sample(range(REQUESTS), BROKEN_OFF))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), *OPTIONS, model=options.model or tiny_gguf(Path(folder))) as server,
    ):
        load = Load(server, list(range(REQUESTS))[::-1], broken_off)
        started = time.perf_counter()
        threads = [
            threading.Thread(target=client, args=(load, place, random.Random(options.seed + place)))
            for place in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        wait_until_idle(server)
        load.memory.append(resident(server))
        report(load, seconds, server.get("/slots")[0])
        if (status := server.end()) != 143:
            load.errors.append(f"the server ended with {status}")
    raise SystemExit("\n".join(load.errors) or 0)


def client(load: Load, place: int, dice: random.Random) -> None:
    """Send requests, one after the other, until none is left."""
    program = 0 if place < OF_ONE_PROGRAM else place
    name = f"Load {place}"
    load.server.post("/api/stories", name=name)
    load.waits[place] = []
    while (number := load.next()) is not None:
        if number in load.broken_off:
            break_off(load, program, dice)
            continue
        started = time.perf_counter()
        if dice.random() < 0.1:
            kind = Kind(
                f"/api/stories/Load%20{place}/answer",
                lambda _: {"text": "And then?", "max_tokens": 8},
                lambda events: events[-1][0] == "done",
            )
        else:
            kind = dice.choice(KINDS)
        answered(load, kind, program, dice)
        load.waits[place].append(time.perf_counter() - started)


def answered(load: Load, kind: Kind, program: int, dice: random.Random) -> None:
    """Send a request and check its answer."""
    body = kind.fields(dice) if kind.method == "POST" else None
    try:
        with load.server.response(kind.method, kind.path, body, agent(program)) as response:
            text, status = response.read().decode(), response.status
    except OSError as error:
        load.note("no answer", f"{kind.path}: {error!r}")
        return
    try:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        found = list(parsed(text)) if is_stream else json.loads(text)
        right = status == kind.status and (status != 200 or kind.is_right(found))
    except (ValueError, KeyError, IndexError):
        right = False
    load.note(str(status), "" if right else f"{kind.path} {body}: {status} {text[-300:]}")


def break_off(load: Load, program: int, dice: random.Random) -> None:
    """Send a request and close the connection at any moment, by half of the clients rudely."""
    kind = dice.choice([one for one in KINDS if one.method == "POST"])
    connection = HTTPConnection("127.0.0.1", load.server.port, timeout=60)
    try:
        connection.request("POST", kind.path, json.dumps(kind.fields(dice)), agent(program))
        time.sleep(dice.uniform(0, LONGEST_BREAK) ** 2 / LONGEST_BREAK)
        if dice.random() < 0.5 and connection.sock is not None:
            now = struct.pack("ii", 1, 0)  # close at once, with a reset
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        load.note("broken off")
    except OSError as error:
        load.note("no connection", f"{kind.path}: {error!r}")
    finally:
        connection.close()


def agent(program: int) -> dict[str, str]:
    """The headers of a client program."""
    return {"User-Agent": f"program {program}"}


def resident(server: Server) -> int:
    """Memory of the server's processes in MiB."""
    process = psutil.Process(server.process.pid)
    workers = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in workers) >> 20


def wait_until_idle(server: Server) -> None:
    """Wait until nothing is left of requests that were broken off."""
    while (slot := server.get("/slots")[0])["is_processing"] or slot["waiting"]:
        time.sleep(0.05)


def report(load: Load, seconds: float, slot: dict[str, Any]) -> None:
    """Print what came of it."""
    print(f"{REQUESTS} requests in {seconds:.0f} s: {dict(sorted(load.statuses.items()))}")
    print(f"errors that are not the clients': {len(load.errors)}")
    print(f"resident memory after each {MEMORY_EVERY}, MiB: {load.memory}")
    kept = Counter("+".join(one["in"]) for one in slot["kept"])
    print(f"kept contexts: {dict(kept)}; answers that ran: {slot['served']}")
    single = [load.waits[place] for place in range(OF_ONE_PROGRAM, CONNECTIONS)]
    shared = [load.waits[place] for place in range(OF_ONE_PROGRAM)]
    means, longest = sorted(map(statistics.mean, single)), sorted(map(max, single))
    together = statistics.mean(map(statistics.mean, shared))
    print(
        "wait of a connection with a program of its own, s: "
        f"mean {means[0]:.2f} to {means[-1]:.2f}, longest {longest[0]:.2f} to {longest[-1]:.2f}"
    )
    print(
        f"mean wait of the {OF_ONE_PROGRAM} connections of one program, s: {together:.2f}, "
        f"{together / statistics.mean(means):.1f} times that of the others"
    )


if __name__ == "__main__":
    main()
