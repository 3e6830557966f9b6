"""The page at /: its files, with a policy that lets it load and reach nothing but this server."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "page"
OPEN_PATHS = ("/", "/page/")
"""Where the page's files are; they need no key, since they tell nothing of a story."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
# Some systems have other ideas of these, and a browser runs no script that is called text/plain.
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _Files(StaticFiles):
    """The page's folder."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        if media := _MEDIA.get(Path(full_path).suffix):
            response.headers["Content-Type"] = media
        return response


async def index(_: Request) -> Response:
    """GET /: the page."""
    return FileResponse(FOLDER / "index.html", media_type=_MEDIA[".html"], headers=HEADERS)


ROUTES = [Route("/", index), Mount("/page", _Files(directory=FOLDER))]
