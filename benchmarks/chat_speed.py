"""The chat's decoding speed compared with a bare llama_decode + argmax loop, in one process.

    python benchmarks/chat_speed.py MODEL.gguf [--tokens 128] [--rounds 5] [--threads N]

The bare loop has a context of its own over the same file. All take turns on the same prompt, and
the best round of each counts: "greedy" writes the bare loop's own tokens, "sampled" draws with the
default settings. Both are timed with everything between the model and the screen: sampling,
tokens to text, text to a character at a time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.sampling.settings import Sampling

PROMPT = "Once upon a time, in a harbour town at the end of the world,"


def bare_loop(
    path: Path, n_ctx: int, threads: int
) -> Callable[[list[int], int], tuple[list[int], float]]:
    """A function from (prompt, count) to greedy token ids and tokens per second."""
    model_params = lib.llama_model_default_params()
    model_params.n_gpu_layers = -1
    model = lib.llama_model_load_from_file(os.fsencode(path), model_params)
    params = lib.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_threads = params.n_threads_batch = threads
    if not lib.llama_supports_gpu_offload():  # as the engine does; other rounding, other texts
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lib.llama_init_from_model(model, params)
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def decode(tokens: list[int]) -> int:
        array = (lib.llama_token * len(tokens))(*tokens)
        if lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens))):
            raise SystemExit("llama_decode failed")
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (n_vocab,))
        return int(logits.argmax())

    def run(prompt: list[int], count: int) -> tuple[list[int], float]:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        tokens = [decode(prompt)]
        started = time.perf_counter()
        while len(tokens) < count:
            tokens.append(decode(tokens[-1:]))
        return tokens, (count - 1) / (time.perf_counter() - started)

    return run


def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    options = parser.parse_args()

    engine = Engine(read_header(options.model), LoadOptions(n_threads=options.threads))
    bare = bare_loop(options.model, engine.n_ctx, options.threads)
    prompt = engine.vocabulary.prompt(PROMPT)
    best = {"bare": 0.0, "greedy": 0.0, "sampled": 0.0}
    for _ in range(options.rounds):
        tokens, rate = bare(prompt, options.tokens)
        best["bare"] = max(best["bare"], rate)
        for name, sampling in (("greedy", Sampling(temperature=0)), ("sampled", Sampling())):
            # Forget the prompt: its last token evaluated alone is rounded otherwise than among all,
            # and where two tokens are as likely the bare loop would write another text.
            engine.evaluate(prompt[-1:])
            answer = engine.generate(prompt, sampling, options.tokens)
            started = time.perf_counter()
            text = "".join(text_of(answer, engine.vocabulary.piece))
            seconds = time.perf_counter() - started - answer.prompt_seconds
            if answer.tokens > 1:
                best[name] = max(best[name], (answer.tokens - 1) / seconds)
            if name == "greedy" and text != "".join(
                text_of(tokens[: answer.tokens], engine.vocabulary.piece)
            ):
                raise SystemExit("the greedy answers differ: the rates do not compare")
    for name, rate in best.items():
        print(f"{name:8}{rate:8.2f} tokens/s{rate / best['bare']:8.3f} of bare")


if __name__ == "__main__":
    main()
