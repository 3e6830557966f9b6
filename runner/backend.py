"""llama.cpp's start, its log, and the only place that loads a model file; knows no context."""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import Header


class EngineError(FrankenError):
    """llama.cpp refused the model or the request; the text carries its reason and the mend."""


# ggml_log_level: 4 is ERROR, 5 CONT (the rest of the line before it).
_ERROR, _CONT = 4, 5
_MAX_LOG_LINES = 50


class _Log:
    """llama.cpp's log: nothing reaches the terminal, the last errors are kept for our one line."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_MAX_LOG_LINES)
        self._level = 0

    def receive(self, level: int, text: bytes, _: object) -> None:
        """llama.cpp's callback, for a part of a line."""
        if level != _CONT:
            self._level = level
        if self._level == _ERROR:
            line = text.decode(errors="replace").strip()
            if line:
                self._errors.append(line)

    def clear(self) -> None:
        """Forget the errors of earlier calls; goes before each call that may fail."""
        self._errors.clear()

    def reason(self) -> str:
        """Why the last call failed, without llama.cpp's function names."""
        # The first error is the cause; those after it say who gave up because of it.
        line = self._errors[0] if self._errors else "it gives no reason"
        return re.sub(r"^([a-z_]\w*: |error loading model( \w+)?: )*", "", line)


log = _Log()
"""One for the process, as llama.cpp's own is."""
# ctypes does not keep the callback alive: the module must.
_log_callback = lib.llama_log_callback(log.receive)


@cache
def _start() -> None:
    lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
    lib.llama_backend_init()


def has_gpu() -> bool:
    """Whether llama.cpp was built for a GPU and finds one."""
    _start()
    return bool(lib.llama_supports_gpu_offload())


@contextmanager
def loaded_model(header: Header, params: lib.llama_model_params) -> Iterator[Any]:
    """The llama_model of the file that `header` was read from, freed at the end.

    Raises EngineError where llama.cpp refuses the file.
    """
    _start()
    log.clear()
    model = lib.llama_model_load_from_file(os.fsencode(header.path), params)
    if not model:
        raise EngineError(f"{header.path}: llama.cpp cannot load it: {log.reason()}")
    try:
        yield model
    finally:
        lib.llama_model_free(model)
