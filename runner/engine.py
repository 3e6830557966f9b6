"""The only file that loads a model through llama.cpp; it knows nothing of chats or templates."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import read_header
from llama_cpp import llama_cpp as lib


class EngineError(FrankenError):
    """llama.cpp refused the model or the request; the text carries its reason and the mend."""


# ggml_log_level: 3 is ERROR, 5 CONT (the rest of the line before it).
_ERROR, _CONT = 3, 5
_MAX_LOG_LINES = 50
_MAX_TOKENS = 1 << 28


class _Log:
    """llama.cpp's log: nothing reaches the terminal, the last errors are kept for our one line."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=_MAX_LOG_LINES)
        self._level = 0

    def receive(self, level: int, text: bytes, _: object) -> None:
        if level != _CONT:
            self._level = level
        if self._level == _ERROR:
            line = text.decode(errors="replace").strip()
            if line:
                self.errors.append(line)

    def reason(self) -> str:
        """The most telling error line of the last load, without llama.cpp's function names."""
        # The first error is the cause; those after it say who gave up because of it.
        line = self.errors[0] if self.errors else "no reason given"
        for prefix in ("llama_model_load: ", "error loading model: "):
            line = line.removeprefix(prefix)
        return line


_log = _Log()
# ctypes does not keep the callback alive: the module must.
_log_callback = lib.llama_log_callback(_log.receive)


@cache
def _start_backend() -> None:
    lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
    lib.llama_backend_init()


@contextmanager
def _loaded_model(path: Path, params: lib.llama_model_params) -> Iterator[Any]:
    """A llama_model, freed at the end. Raises GGUFError, EngineError."""
    # llama.cpp asserts, hangs or allocates without bound on some damaged headers: ours goes first.
    read_header(path)
    _start_backend()
    _log.errors.clear()
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise EngineError(f"{path}: llama.cpp cannot load it: {_log.reason()}")
    try:
        yield model
    finally:
        lib.llama_model_free(model)


class Vocabulary:
    """The tokenizer of a loaded model: text to token ids and token ids to bytes."""

    def __init__(self, path: Path, model: Any) -> None:
        self._vocab = lib.llama_model_get_vocab(model)
        self.size = int(lib.llama_vocab_n_tokens(self._vocab))
        if not self.size:
            raise EngineError(f"{path}: holds no tokenizer; convert it again with its tokenizer")

    def tokenize(self, text: str) -> list[int]:
        """The token ids of `text`; special tokens in it are recognized, none is added."""
        data = text.encode()
        room = len(data) + 8
        while True:
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, False, True)
            if count >= 0:
                return list(tokens[:count])
            if -count <= room or -count > _MAX_TOKENS:
                raise EngineError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
            # Normalization may lengthen a text: the negative count is the room it wants.
            room = -count


@contextmanager
def load_vocabulary(path: Path) -> Iterator[Vocabulary]:
    """The tokenizer of the GGUF file `path`, without its weights. Raises GGUFError, EngineError."""
    params = lib.llama_model_default_params()
    params.vocab_only = True
    with _loaded_model(path, params) as model:
        yield Vocabulary(path, model)
