"""The page at /: its files, with a policy that lets it load and reach nothing but this server."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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
    "Vary": "Accept-Encoding",
}
_INDEX = "index.html"
_TYPES = "modules/types.js"  # for the type checker alone
# Some systems have other ideas of these, and a browser runs no script that is called text/plain.
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFile:
    """One file: its content, as it is and compressed."""

    def __init__(self, content: bytes, media: str) -> None:
        self._content, self._packed = content, gzip.compress(content, mtime=0)
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        self._headers = {**HEADERS, "Content-Type": media, "ETag": self._tag}

    def answer(self, request: Request) -> Response:
        """The file, compressed if the browser takes that, or that the browser has it already."""
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._packed, headers={**self._headers, "Content-Encoding": "gzip"})
        return Response(self._content, headers=self._headers)


@cache
def page_files() -> dict[str, PageFile]:
    """All files of the page, which are small, by their paths in its folder."""
    files = {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _MEDIA
    }
    # A browser would find the modules one level of imports after the other.
    links = [
        f'<link rel="modulepreload" href="/page/{path}">'
        for path in files
        if path.endswith(".js") and path != _TYPES
    ]
    index = files[_INDEX].decode().replace("</head>", "\n".join(links) + "\n</head>")
    files[_INDEX] = index.encode()
    return {path: PageFile(data, _MEDIA[Path(path).suffix]) for path, data in files.items()}


async def index(request: Request) -> Response:
    """GET /: the page."""
    return page_files()[_INDEX].answer(request)


async def file(request: Request) -> Response:
    """GET /page/{path}: a file of the page."""
    found = page_files().get(request.path_params["path"])
    if found is None:
        raise HTTPException(404)
    return found.answer(request)


ROUTES = [Route("/", index), Route("/page/{path:path}", file, include_in_schema=False)]
