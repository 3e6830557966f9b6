"""Starts llama.cpp, captures its log, and loads model files; contexts are made elsewhere."""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.crash.flight_recorder import LOADING, recorder

from .ggml import function, load_backend


class EngineError(FrankenError):
    """llama.cpp refused the model or the request; the message has its reason and the fix."""


class AllocationError(EngineError):
    """A device has less memory than was requested."""


# ggml_log_level: 4 is ERROR, 5 CONT (the rest of the line before it).
_ERROR, _CONT = 4, 5
_MAX_LOG_LINES = 50
_BUFFER = re.compile(r"(\S+) +(\w+) buffer size = +([\d.]+) MiB")


@dataclass(frozen=True)
class Buffer:
    """A buffer that llama.cpp allocated, as it logs it."""

    device: str
    """ggml's name of the buffer type: CPU, CPU_Mapped, CPU_REPACK, CUDA0, CUDA_Host."""
    holds: str
    """model, KV, compute or output."""
    nbytes: int
    """Rounded to 0.01 MiB."""


class _Log:
    """llama.cpp's log, kept off the terminal: the last errors, and the last load's buffers."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_MAX_LOG_LINES)
        self.buffers: list[Buffer] = []
        self._level = 0

    def receive(self, level: int, text: bytes, _: object) -> None:
        """llama.cpp's log callback; `text` can be part of a line."""
        if level != _CONT:
            self._level = level
        if self._level == _ERROR:
            line = text.decode(errors="replace").strip()
            if line:
                self._errors.append(line)
        elif b" buffer size = " in text and (found := _BUFFER.search(text.decode())):
            self.buffers.append(Buffer(found[1], found[2], round(float(found[3]) * 2**20)))

    def clear(self) -> None:
        """Forget the errors of earlier calls; call it before each call that can fail."""
        self._errors.clear()

    def reason(self) -> str:
        """Why the last call failed, without llama.cpp's function names."""
        # The first error is the cause; the rest come from its callers.
        line = self._errors[0] if self._errors else "it gives no reason"
        return re.sub(r"^([a-z_]\w*: |error loading model( \w+)?: )*", "", line)

    def is_out_of_memory(self) -> bool:
        """Whether the last call failed for lack of memory."""
        return any(re.search(r"\balloc|out of memory", line) for line in self._errors)


log = _Log()
"""One for the process, as llama.cpp's own is."""
# ctypes does not keep the callback alive: the module must.
_log_callback = lib.llama_log_callback(log.receive)
_abort_callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(recorder.record_abort)


@cache
@signals_held()
def start() -> None:
    """Start llama.cpp once, with the extra backend that GGML_BACKEND_PATH names.

    Raises EngineError if ggml cannot load that backend.
    """
    lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
    lib.llama_backend_init()
    path = os.environ.get("GGML_BACKEND_PATH")
    if path and not load_backend(path):
        raise EngineError(f"GGML_BACKEND_PATH={path}: llama.cpp cannot load this backend library")


@cache
def _record_aborts() -> None:
    """Record why llama.cpp aborts the process; without this it prints that and a backtrace."""
    function("ggml_set_abort_callback", ctypes.c_void_p, type(_abort_callback))(_abort_callback)


@contextmanager
def loaded_model(header: Header, params: lib.llama_model_params) -> Iterator[Any]:
    """The llama_model of the file that `header` was read from, freed at the end.

    Enter it inside `signals_held`. Raises EngineError if llama.cpp refuses the file,
    AllocationError if memory is lacking.
    """
    start()
    if recorder.is_read:
        _record_aborts()
    log.clear()
    log.buffers.clear()
    with recorder.during(LOADING, str(header.path)):
        model = lib.llama_model_load_from_file(os.fsencode(header.path), params)
    if not model:
        kind = AllocationError if log.is_out_of_memory() else EngineError
        raise kind(f"{header.path}: llama.cpp cannot load it: {log.reason()}")
    try:
        yield model
    finally:
        with signals_held():
            lib.llama_model_free(model)
