"""ggml's devices and backends, called through llama-cpp-python's own copy of the library."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any

# Not llama_cpp._ggml: in the wheel that opens a second copy of ggml, with another registry.
from llama_cpp.llama_cpp import _lib

from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.placement import Override

_CPU_KIND = 0
_KINDS = {_CPU_KIND: "CPU", 1: "GPU", 2: "IGPU", 3: "ACCEL", 4: "META"}
_Pointer = ctypes.c_void_p


@dataclass(frozen=True)
class GgmlDevice:
    """A device that ggml has registered. Memory in bytes, as the backend reports it."""

    name: str
    description: str
    kind: str
    """CPU, GPU, IGPU (integrated), ACCEL (helps the CPU) or META."""
    backend: str
    """The backend it belongs to: CPU, CUDA, Metal, Vulkan, RPC."""
    total: int
    free: int
    pins_ram: bool
    """Whether it has a pinned host buffer type, from which it copies faster."""


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", _Pointer))


@cache
def function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml's public C API, typed."""
    symbol = getattr(_lib, name)
    symbol.restype, symbol.argtypes = result, list(arguments)
    return symbol


def devices() -> list[GgmlDevice]:
    """All registered devices, the CPU among them."""
    return [_described(handle) for handle in _handles()]


def backends() -> tuple[str, ...]:
    """The names of all backends in the build, including those without a device here."""
    count = function("ggml_backend_reg_count", ctypes.c_size_t)()
    get = function("ggml_backend_reg_get", _Pointer, ctypes.c_size_t)
    return tuple(_text("ggml_backend_reg_name", get(index)) for index in range(count))


def device_array(names: tuple[str, ...]) -> ctypes.Array[ctypes.c_void_p]:
    """NULL-terminated handles for llama_model_params.devices. Keep it alive while loading."""
    handles = {_described(handle).name: handle for handle in _handles()}
    return (_Pointer * (len(names) + 1))(*(handles[name] for name in names), None)


def override_array(overrides: tuple[Override, ...]) -> ctypes.Array[_Override]:
    """For llama_model_params.tensor_buft_overrides. Keep it alive while loading."""
    cpu = function("ggml_backend_cpu_buffer_type", _Pointer)()
    buffer_type = function("ggml_backend_dev_buffer_type", _Pointer, _Pointer)
    handles = {_described(handle).name: handle for handle in _handles()}
    rows = [
        _Override(
            os.fsencode(override.pattern),
            cpu if override.device == CPU else buffer_type(handles[override.device]),
        )
        for override in overrides
    ]
    return (_Override * (len(rows) + 1))(*rows, _Override(None, None))


def main_device() -> int:
    """The handle of the device that an RPC worker serves: the first GPU, else the CPU."""
    handles = {_described(handle).kind: handle for handle in reversed(_handles())}
    return handles.get("GPU") or handles.get("IGPU") or handles["CPU"]


def cpu_device() -> int:
    """The handle of the CPU."""
    handle = function("ggml_backend_dev_by_type", _Pointer, ctypes.c_int)(_CPU_KIND)
    assert handle
    return int(handle)


def extra_buffer_types() -> list[int]:
    """The buffer types in which the CPU keeps repacked weights."""
    address = _symbol(_registry(cpu_device()), "ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    types = ctypes.CFUNCTYPE(ctypes.POINTER(_Pointer), _Pointer)(address)(cpu_device())
    return list(takewhile(bool, types)) if types else []


def load_backend(path: str) -> bool:
    """Register the backend in another library file; False if ggml refuses it."""
    return bool(function("ggml_backend_load", _Pointer, ctypes.c_char_p)(os.fsencode(path)))


def rpc_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml's RPC backend; None if the build has none."""
    registry = function("ggml_backend_reg_by_name", _Pointer, ctypes.c_char_p)(b"RPC")
    if not registry:
        return None
    address = _symbol(registry, name)
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None


def _symbol(registry: int, name: str) -> int | None:
    """The address of a function that only this backend has."""
    find = function("ggml_backend_reg_get_proc_address", _Pointer, _Pointer, ctypes.c_char_p)
    address: int | None = find(registry, name.encode())
    return address


def _registry(device: int) -> int:
    return int(function("ggml_backend_dev_backend_reg", _Pointer, _Pointer)(device))


def _handles() -> list[int]:
    count = function("ggml_backend_dev_count", ctypes.c_size_t)()
    get = function("ggml_backend_dev_get", _Pointer, ctypes.c_size_t)
    return [get(index) for index in range(count)]


def _described(handle: int) -> GgmlDevice:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    size_out = ctypes.POINTER(ctypes.c_size_t)
    memory = function("ggml_backend_dev_memory", None, _Pointer, size_out, size_out)
    memory(handle, ctypes.byref(free), ctypes.byref(total))
    registry = _registry(handle)
    kind = function("ggml_backend_dev_type", ctypes.c_int, _Pointer)(handle)
    return GgmlDevice(
        name=_text("ggml_backend_dev_name", handle),
        description=_text("ggml_backend_dev_description", handle),
        kind=_KINDS.get(kind, str(kind)),
        backend=_text("ggml_backend_reg_name", registry),
        total=total.value,
        free=free.value,
        pins_ram=bool(function("ggml_backend_dev_host_buffer_type", _Pointer, _Pointer)(handle)),
    )


def _text(name: str, handle: int) -> str:
    return bytes(function(name, ctypes.c_char_p, _Pointer)(handle) or b"").decode(errors="replace")
