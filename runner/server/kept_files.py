"""The files of kept contexts: a folder within a limit, each file with a hash over all of it.

A file: magic, number of tokens (u32), the tokens (i32), llama.cpp's state, a keyed hash; little
endian.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.files import replacing
from franken_gguf.runner.conversation.session import make_private

_SUFFIX = ".kv"
_MAGIC = b"FGKV\1"
_HEAD = struct.Struct("<5sI")  # magic, number of tokens
_HASH_BYTES = 32

Tokens = NDArray[np.int32]
State = NDArray[np.uint8]


class KeptFiles:
    """Files in `folder` of contexts that were made with `key`; other models' are beside them.

    All files together have at most `max_bytes`.
    """

    def __init__(self, folder: Path, key: bytes, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._folder = folder
        self._key = key
        self._prefix = f"{key.hex()[:16]}-"
        make_private(folder)

    def all(self, n_ctx: int) -> Iterator[tuple[Path, Tokens, int, float]]:
        """Each file with its tokens, its size in bytes, and when it was used last."""
        for path in self._folder.glob(f"{self._prefix}*{_SUFFIX}"):
            with suppress(OSError), path.open("rb") as file:
                magic, count = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size))
                if magic == _MAGIC and count <= n_ctx:
                    tokens = np.frombuffer(file.read(4 * count), "<i4")
                    found = path.stat()
                    yield path, tokens, found.st_size, found.st_mtime

    def write(self, tokens: Tokens, state: State) -> Path | None:
        """The file of a context, which has its name once it is complete; None on a full disk."""
        path = self._folder / f"{self._prefix}{uuid.uuid4().hex}{_SUFFIX}"
        head = _HEAD.pack(_MAGIC, len(tokens)) + tokens.astype("<i4").tobytes()
        try:
            with replacing(path, mode=0o600) as part, part.open("wb") as file:
                file.write(head)
                file.write(state.data)
                file.write(_digest(self._key, head, state))
        except OSError:
            return None
        return path

    def read(self, path: Path, tokens: Tokens) -> State | None:
        """The state in the file of `tokens`; None if the file is gone or has changed."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD.size + 4 * len(tokens))
                size = path.stat().st_size - len(head) - _HASH_BYTES
                state = np.empty(max(0, size), np.uint8)
                file.readinto(state.data)
                stored = file.read()
            path.touch()
        except OSError:
            return None
        return state if hmac.compare_digest(stored, _digest(self._key, head, state)) else None

    def limit(self) -> set[Path]:
        """Delete the oldest files, other models' too, until the rest is within the limit.

        Returns those that were deleted.
        """
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total, deleted = sum(size for _, size, _ in files), set()
        for _, size, path in sorted(files):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            deleted.add(path)
            total -= size
        return deleted


def _digest(key: bytes, head: bytes, state: State) -> bytes:
    result = hashlib.blake2b(head, key=key, digest_size=_HASH_BYTES)
    result.update(state.data)
    return result.digest()
