"""The settings of sampling.py as a chain of llama.cpp's samplers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_cpp import llama_cpp as lib

from .sampling import Sampling


@contextmanager
def sampler_chain(sampling: Sampling, prompt: Sequence[int], n_vocab: int) -> Iterator[Any]:
    """A llama_sampler chain in llama.cpp's own order, which has seen the end of the prompt."""
    params = lib.llama_sampler_chain_default_params()
    chain = lib.llama_sampler_chain_init(params)
    try:
        if sampling.repeat_penalty != 1 and sampling.repeat_last_n:
            penalties = lib.llama_sampler_init_penalties(
                n_vocab, sampling.repeat_last_n, sampling.repeat_penalty, 0.0, 0.0
            )
            lib.llama_sampler_chain_add(chain, penalties)
            for token in prompt[-sampling.repeat_last_n :]:
                lib.llama_sampler_accept(penalties, token)
        if sampling.temperature == 0:
            lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_greedy())
        else:
            for sampler in (
                lib.llama_sampler_init_top_k(sampling.top_k),
                lib.llama_sampler_init_top_p(sampling.top_p, 1),
                lib.llama_sampler_init_min_p(sampling.min_p, 1),
                lib.llama_sampler_init_temp(sampling.temperature),
                lib.llama_sampler_init_dist(sampling.seed),
            ):
                lib.llama_sampler_chain_add(chain, sampler)
        yield chain
    finally:
        lib.llama_sampler_free(chain)
