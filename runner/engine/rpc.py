"""llama.cpp's RPC backend: uses other machines' devices, or serves one of this machine's.

There is no authentication and no encryption, and a client can crash the worker or worse: keep it on
loopback or on a trusted network. If a worker disappears, llama.cpp aborts the program that uses it.
"""

from __future__ import annotations

import ctypes
import socket

from .backend import EngineError, start
from .ggml import function, main_device, rpc_function

DEFAULT_PORT = 50052
_PATIENCE = 3.0
NO_RPC = (
    "this llama-cpp-python was built without RPC; to build it with RPC: "
    'CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir llama-cpp-python '
    "(or name a ggml-rpc library in GGML_BACKEND_PATH)"
)
_Pointer = ctypes.c_void_p


def add_worker(endpoint: str) -> None:
    """Register the devices of the worker at `endpoint`, HOST:PORT, as RPC0 and so on.

    Raises EngineError if no worker answers there, or if the build has no RPC.
    """
    start()
    add = rpc_function("ggml_backend_rpc_add_server", _Pointer, ctypes.c_char_p)
    if add is None:
        raise EngineError(NO_RPC)
    host, port = parse_endpoint(endpoint)
    # llama.cpp would abort the process if nothing listens there.
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError as error:
        raise EngineError(
            f"--rpc {endpoint}: {error.strerror or error}; is a worker running there?"
        ) from None
    registry = add(f"{host}:{port}".encode())
    if not registry:
        raise EngineError(
            f"--rpc {endpoint}: the program there is not a worker with devices; "
            "start 'franken-gguf worker' or llama.cpp's rpc-server there"
        )
    function("ggml_backend_register", None, _Pointer)(registry)


def serve(host: str, port: int, n_threads: int) -> None:
    """Serve this machine's best device to any client. Returns only by EngineError."""
    start()
    serve_forever = rpc_function(
        "ggml_backend_rpc_start_server",
        None,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.POINTER(_Pointer),
    )
    if serve_forever is None:
        raise EngineError(NO_RPC)
    devices = (_Pointer * 1)(main_device())
    serve_forever(f"{host}:{port}".encode(), None, n_threads, 1, devices)
    raise EngineError(f"{host}:{port}: cannot listen there; is the port in use?")


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """HOST:PORT, or HOST alone with rpc-server's default port. Raises EngineError."""
    host, colon, port = endpoint.rpartition(":")
    if not colon:
        return endpoint, DEFAULT_PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise EngineError(f"--rpc {endpoint}: give HOST:PORT")
    return host, int(port)
