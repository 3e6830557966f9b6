"""Listening for clients: the socket, TLS, limits on slow clients, and a good end."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import time
from pathlib import Path
from types import FrameType

import h11
import psutil
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.common.signals import signals_held

from .served_model import ServedModel

MAX_CONNECTIONS = 256
HEADER_SECONDS = 10.0
_MAX_HEADERS = 1 << 15  # bytes
_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 128
_ONCE_SECONDS = 1.0


class ListenError(FrankenError):
    """The server cannot listen at an address."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` and `port`; port 0 is any free one. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ListenError(f"--host {host}: {error.strerror}") from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"port {port} is in use{_holder(port)}; end it, or choose another with --port"
            ) from None
        raise ListenError(f"cannot listen at {host}:{port}: {error.strerror}") from None
    return found


def run_server(
    app: ASGIApp, model: ServedModel, listener: socket.socket, tls: tuple[Path, Path] | None
) -> None:
    """Serve `app` until a signal ends it; the running answer ends in good order."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of clients that went away
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # a path can hold a story's name
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEADERS,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    server = _Server(config, model)
    with signals_held(on_arrival=server.end):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, model: ServedModel) -> None:
        super().__init__(config)
        self._model = model
        self._ended = -math.inf

    def end(self) -> None:
        """End for a signal that uvicorn does not handle, or that arrives before it does."""
        self.should_exit = True
        self._model.thread.end()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the running answer too: uvicorn waits for it before it ends the app.

        A second Ctrl-C does not wait; the traceback of what it breaks off is not logged. One that
        follows at once is the same, sent to this process and to the one that passes it on.
        """
        if time.monotonic() - self._ended < _ONCE_SECONDS:
            return
        if self.should_exit:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._ended = time.monotonic()
        self._model.thread.end()
        super().handle_exit(sig, frame)


class _Protocol(H11Protocol):
    """Closes connections whose request line and headers take too long to arrive."""

    _deadline: asyncio.TimerHandle | None = None

    # Narrower than asyncio's, as uvicorn's own is.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_headers()
        else:
            self._headers_came()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _headers_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _holder(port: int) -> str:
    """Which process holds a port, as far as this user may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                if connection.pid is None:
                    break
                name = psutil.Process(connection.pid).name()
                return f" by {name} (process {connection.pid})"
    except psutil.Error:
        pass
    return ", perhaps by another user's process"
