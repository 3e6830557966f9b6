"""Saves the evaluated context of a session, so that resuming it does not evaluate it again.

llama.cpp loads the state of another model, or of another quant of the same model, without an error.
So the file ends in a hash of all its bytes, keyed by everything that must be the same again. A file
whose hash does not match is deleted.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import llama_cpp

from franken_gguf.runner.conversation.session import replacing
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine

_HASH_BYTES = 32
_CHUNK = 1 << 20


def save_context(engine: Engine, path: Path) -> int:
    """Write the context to `path` and return its size in bytes. Raises EngineError, OSError."""
    with replacing(path) as part:
        engine.save_state(part)
        digest = _digest(engine, part, part.stat().st_size)
        with part.open("ab") as file:
            file.write(digest)
        return part.stat().st_size


def load_context(engine: Engine, path: Path) -> bool:
    """Load what `save_context` wrote. If it does not fit this model, delete it and return False."""
    try:
        with path.open("rb") as file:
            size = max(0, file.seek(0, 2) - _HASH_BYTES)
            file.seek(size)
            stored = file.read()
    except FileNotFoundError:
        return False
    if hmac.compare_digest(stored, _digest(engine, path, size)):
        try:
            engine.load_state(path)
        except EngineError:
            pass
        else:
            return True
    path.unlink(missing_ok=True)
    return False


def _digest(engine: Engine, path: Path, size: int) -> bytes:
    result = hashlib.blake2b(key=fingerprint(engine), digest_size=_HASH_BYTES)
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, _CHUNK))):
            result.update(chunk)
            size -= len(chunk)
    return result.digest()


def fingerprint(engine: Engine) -> bytes:
    """A hash of everything that a context depends on: model file, library, context settings."""
    header = engine.header
    state = header.path.stat()
    settings = (state.st_size, state.st_mtime_ns, llama_cpp.__version__, engine.context_kind)
    result = hashlib.blake2b(repr(settings).encode(), digest_size=_HASH_BYTES)
    with header.path.open("rb") as file:
        result.update(file.read(min(tensor.offset for tensor in header.tensors)))
    return result.digest()
