"""A child process of cpu_check.py: all tokens of a tiny model through it in one batch.

    python -m franken_gguf.runner.engine.trial MODEL [extra]

With "extra" llama.cpp may hold weights in its extra buffers. Exit status 0 where that goes well; a
crash ends the process. Imports nothing but llama_cpp, which takes most of its time.
"""

from __future__ import annotations

import ctypes
import os
import sys

from llama_cpp import llama_cpp as lib

if sys.platform != "win32":
    import resource


def run(path: str, use_extra_buffers: bool) -> None:
    """Load the model on the CPU and evaluate the batch. Raises RuntimeError with what failed."""
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = use_extra_buffers
    devices = (ctypes.c_void_p * 1)(None)  # no GPU
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise RuntimeError("llama.cpp does not load the model")
    count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    context_params = lib.llama_context_default_params()
    context_params.n_ctx = context_params.n_batch = context_params.n_ubatch = count
    # Two, since a thread that is not the first may lack what the first has asked the kernel for.
    context_params.n_threads = context_params.n_threads_batch = 2
    context = lib.llama_init_from_model(model, context_params)
    if not context:
        raise RuntimeError("llama.cpp makes no context")
    tokens = (lib.llama_token * count)(*range(count))
    batch = lib.llama_batch_get_one(tokens, count)
    # All, or the last layer's experts would see one token.
    wanted = (ctypes.c_int8 * count)(*[1] * count)
    batch.logits = wanted
    if status := lib.llama_decode(context, batch):
        raise RuntimeError(f"llama.cpp does not evaluate the batch (status {status})")


if __name__ == "__main__":
    if sys.platform != "win32":
        # A crash is expected here and there; it shall leave no core file.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run(sys.argv[1], "extra" in sys.argv[2:])
