"""Who may call: the server's own names in Host, no page of another site, and the key.

A page on the internet can make a browser send requests to this machine. Its requests name that
page's site in Origin, or, if its name was made to point here (DNS rebinding), in Host.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from . import page_files
from .refusals import RequestError, openai_form

_LOCAL_NAMES = ("localhost", "host.docker.internal")
OPEN_PATHS = ("/health", "/v1/health", *page_files.OPEN_PATHS)
"""Need no key, and neither does the page: they tell nothing of a story."""


@dataclass(frozen=True)
class Access:
    """Who may use a server."""

    key: str = ""
    """What clients must send as `Authorization: Bearer KEY`; "" is none."""
    hosts: tuple[str, ...] = ()
    """Further names of this machine that clients may use."""
    origins: tuple[str, ...] = ()
    """Web pages of other origins that may use the server."""
    open_paths: tuple[str, ...] = OPEN_PATHS
    """Paths that need no key; one that ends with / stands for all below it."""


class Guard:
    """An ASGI app that lets only those requests through to `app` that `access` allows."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        own = socket.gethostname().lower()
        self._names = {*_LOCAL_NAMES, own, f"{own}.local", *map(str.lower, access.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http" and (error := self._refusal(scope)):
            await JSONResponse(openai_form(error), error.status)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> RequestError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_own_host(host, self._names):
            return RequestError(
                "this server does not answer to the name in the Host header; "
                "--allowed-host NAME allows it",
                status=403,
            )
        origin = headers.get("origin")
        if origin is not None and not self._allows_origin(origin, host):
            return RequestError(
                "pages of other sites may not use this server; --origin URL allows one",
                status=403,
            )
        if self._access.key and not self._is_open(scope) and not self._has_key(headers):
            return RequestError(
                "this server needs its key, sent as 'Authorization: Bearer KEY'",
                status=401,
                code="invalid_api_key",
            )
        return None

    def _allows_origin(self, origin: str, host: str) -> bool:
        if origin in self._access.origins:
            return True
        return bool(host) and origin.partition("://")[2].lower() == host.lower()

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        return scope["method"] == "OPTIONS" or any(
            path == one or (one.endswith("/") and len(one) > 1 and path.startswith(one))
            for one in self._access.open_paths
        )

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else ""
        given = given or headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode(), self._access.key.encode())


def is_own_host(header: str, names: Iterable[str]) -> bool:
    """Whether a Host header is an IP address, which no site's name can be, or one of `names`."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names or name.endswith(".localhost")
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
