"""A stand-in for the Hugging Face Hub on loopback: its API and files as huggingface_hub asks.

Small files come from the Hub itself; large ones (safetensors, GGUF) are redirected to a second
server, as to the Hub's storage, which knows ranges and must not see a token.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_STORED = (".safetensors", ".gguf")
_MODEL = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_PIECE = 1 << 20


@cache
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class StandIn:
    """One repository of the stand-in, at one commit; a test may change it at any time."""

    files: dict[str, bytes]
    license: str = "apache-2.0"
    token: str = ""
    """Needed for its files, if any: the repository is gated."""
    is_private: bool = False
    """Without the token it does not exist."""
    branches: tuple[str, ...] = ("main",)
    card: dict[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        whole = "".join(name + sha256(data) for name, data in sorted(self.files.items()))
        return hashlib.sha1(whole.encode()).hexdigest()

    def info(self) -> dict[str, Any]:
        return {
            "id": "org/name",
            "sha": self.commit,
            "tags": [f"license:{self.license}"] if self.license else [],
            "cardData": self.card,
            "siblings": [_sibling(name, data) for name, data in self.files.items()],
        }


@dataclass
class Request:
    """One request that was made."""

    method: str
    path: str
    range: str
    token: str


@dataclass
class Hub:
    """A running stand-in."""

    address: str = ""
    storage: str = ""
    repositories: dict[str, StandIn] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cut_after: int | None = None
    """Break the connection after this many bytes of a stored file."""
    pause_after: int | None = None
    """Stop sending a stored file after this many bytes, until `proceed` is set."""
    proceed: threading.Event = field(default_factory=threading.Event)
    has_ranges: bool = True
    damaged: bool = False
    """Send stored files with a wrong byte."""
    endless: bool = False
    """Send more of a stored file than was announced."""
    delay: float = 0.0
    """Wait this many seconds before each answer."""
    status: int = 0
    """Answer everything with this status."""

    def add(self, name: str, source: Path | dict[str, bytes], **fields: Any) -> StandIn:
        """A repository of these files, or of those in a folder."""
        if isinstance(source, Path):
            paths = [path for path in source.rglob("*") if path.is_file()]
            source = {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}
        self.repositories[name] = StandIn(source, **fields)
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """The names of the files that were asked for by GET, in order."""
        gets = [request for request in self.requests if request.method == "GET"]
        return [found[3] for one in gets if (found := _FILE.fullmatch(one.path))]

    def ranges(self) -> list[str]:
        """The ranges asked of stored files."""
        return [request.range for request in self.requests if request.path.startswith("/stored/")]


@cache
def _blob_id(data: bytes) -> str:
    """The hash that git knows a file by."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _blob_id(data)}
    if name.endswith(_STORED):
        entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


def in_cache(home: Path, name: str, source: Path, *, revision: str = "main") -> Path:
    """A cache under HF_HOME with the files of a folder as huggingface_hub links them; the snapshot.

    No library writes it: the layout is the one that the Hub documents.
    """
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / hashlib.sha1(name.encode()).hexdigest()
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    for path in source.rglob("*"):
        if path.is_file():
            blob = repository / "blobs" / sha256(path.read_bytes())
            blob.write_bytes(path.read_bytes())
            place = snapshot / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(blob, place.parent))
    ref = repository / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(snapshot.name)
    return snapshot


@contextmanager
def hub() -> Iterator[Hub]:
    """A stand-in without repositories; stopped at the end."""
    state = Hub()
    with ExitStack() as resources:
        for name, handler in (("address", _Hub), ("storage", _Storage)):
            server = ThreadingHTTPServer(("127.0.0.1", 0), type(name, (handler,), {"hub": state}))
            server.daemon_threads = True
            setattr(state, name, f"http://127.0.0.1:{server.server_port}")
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            resources.callback(thread.join)
            resources.callback(server.server_close)
            resources.callback(server.shutdown)
        try:
            yield state
        finally:
            state.proceed.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        """Print nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client may go away
            super().handle()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.requests.append(
            Request(self.command, unquote(path), self.headers.get("Range", ""), token)
        )
        time.sleep(self.hub.delay)
        if self.hub.status:
            self.send(self.hub.status, b"{}")
        else:
            self.respond(path, token)

    def respond(self, path: str, token: str) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send(status, b"{}", **{"X-Error-Code": code, "X-Error-Message": message})

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class _Hub(_Handler):
    def respond(self, path: str, token: str) -> None:
        asked = _MODEL.fullmatch(path) or _FILE.fullmatch(path)
        repository = self.hub.repositories.get(asked[1]) if asked else None
        if asked is None or repository is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif repository.is_private and token != repository.token:
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif unquote(asked[2] or "main") not in (*repository.branches, repository.commit):
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
        elif asked.re is _MODEL:
            self.send(200, json.dumps(repository.info()).encode())
        else:
            self._file(repository, unquote(asked[3]), token)

    def _file(self, repository: StandIn, name: str, token: str) -> None:
        if repository.token and token != repository.token:
            self.refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        elif name not in repository.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            entry = _sibling(name, repository.files[name])
            headers = {"X-Repo-Commit": repository.commit}
            if lfs := entry.get("lfs"):
                headers["X-Linked-Etag"] = f'"{lfs["sha256"]}"'
                headers["X-Linked-Size"] = str(lfs["size"])
                headers["Location"] = f"{self.hub.storage}/stored/{lfs['sha256']}"
                self.send(302, b"", **headers)
            else:
                self.send(200, repository.files[name], ETag=f'"{entry["blobId"]}"', **headers)


class _Storage(_Handler):
    def respond(self, path: str, token: str) -> None:
        contents = [data for one in self.hub.repositories.values() for data in one.files.values()]
        wanted = path.removeprefix("/stored/")
        data = next(one for one in contents if sha256(one) == wanted)
        if self.hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.hub.endless:
            data *= 2
        asked = self.headers.get("Range", "") if self.hub.has_ranges else ""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        start = int(found[1]) if found else 0
        stop = int(found[2]) + 1 if found and found[2] else len(data)
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(stop - start))
        if found:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        cut = self.hub.cut_after
        whole = memoryview(data)[start:stop]
        if pause := self.hub.pause_after:
            self.wfile.write(whole[:pause])
            self.hub.proceed.wait(60)
            whole = whole[pause:]
        self.wfile.write(whole if cut is None else whole[:cut])
        if cut is not None and cut < len(whole):
            self.close_connection = True
