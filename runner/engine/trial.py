"""The child process of cpu_check.py: evaluates all tokens of a tiny model in one batch.

    python -m franken_gguf.runner.engine.trial MODEL [extra]

With "extra", llama.cpp may use extra buffers. The exit status is 0 on success; a crash ends the
process. Imports only llama_cpp, which takes most of the time.
"""

from __future__ import annotations

import ctypes
import os
import sys

from llama_cpp import llama_cpp as lib

if sys.platform != "win32":
    import resource


def run(path: str, use_extra_buffers: bool) -> None:
    """Load the model on the CPU and evaluate the batch. Raises RuntimeError."""
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = use_extra_buffers
    devices = (ctypes.c_void_p * 1)(None)  # no GPU
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise RuntimeError("llama.cpp cannot load the model")
    count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    context_params = lib.llama_context_default_params()
    context_params.n_ctx = context_params.n_batch = context_params.n_ubatch = count
    # Two: a worker thread can lack a permission (AMX) that the main thread has requested.
    context_params.n_threads = context_params.n_threads_batch = 2
    context = lib.llama_init_from_model(model, context_params)
    if not context:
        raise RuntimeError("llama.cpp cannot create a context")
    tokens = (lib.llama_token * count)(*range(count))
    batch = lib.llama_batch_get_one(tokens, count)
    # Request all logits, or the last layer's experts would see one token.
    output_flags = (ctypes.c_int8 * count)(*[1] * count)
    batch.logits = output_flags
    if status := lib.llama_decode(context, batch):
        raise RuntimeError(f"llama.cpp cannot evaluate the batch (status {status})")


if __name__ == "__main__":
    if sys.platform != "win32":
        # A crash is an expected result; it should leave no core file.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run(sys.argv[1], "extra" in sys.argv[2:])
