"""A chain of llama.cpp's samplers built from Sampling settings; its state can be copied."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from franken_gguf.runner.sampling.settings import Sampling, SamplingError

from .grammar import grammar_sampler

F32 = NDArray[np.float32]

_NEVER = float("-inf")
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama_token_data"""
_MIROSTAT_M = 100  # llama.cpp's default: tokens from which Mirostat 1 estimates its curve


class Sampler:
    """Samples tokens. Close it, and each copy."""

    def __init__(self, sampling: Sampling, vocab: Any, n_vocab: int) -> None:
        """`vocab` is a llama_vocab. Raises SamplingError for an invalid grammar."""
        self.sampling = sampling
        self._n_vocab = n_vocab
        self._chain = _chain(_samplers(sampling, vocab, n_vocab))
        self._grammar = None
        if sampling.grammar:
            try:
                self._grammar = grammar_sampler(vocab, sampling.grammar)
            except SamplingError:
                self.close()
                raise

    def close(self) -> None:
        """Free llama.cpp's samplers."""
        for sampler in filter(None, (self._chain, self._grammar)):
            lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def copy(self) -> Sampler:
        """A sampler with the same settings, random state and history, independent from now on."""
        twin = object.__new__(Sampler)
        twin.sampling, twin._n_vocab = self.sampling, self._n_vocab
        twin._chain = lib.llama_sampler_clone(self._chain)
        twin._grammar = lib.llama_sampler_clone(self._grammar) if self._grammar else None
        return twin

    def reset(self) -> None:
        """Forget the history and restart the random state; a random seed is chosen anew."""
        lib.llama_sampler_reset(self._chain)

    def see(self, prompt: Sequence[int]) -> None:
        """Show the end of `prompt` to the penalties, which count only sampled tokens otherwise."""
        last = self.sampling.reach()
        for token in prompt[-last:] if last else ():
            lib.llama_sampler_accept(self._chain, token)

    def sample(
        self, context: Any, logits: F32, disallowed: Collection[int] = (), *, index: int = -1
    ) -> int:
        """The next token after one in a llama_context's last batch, none of `disallowed`.

        `index` is that token's place in the batch, -1 the last; `logits`, (vocabulary,), are those
        after it. If only disallowed tokens are possible, one of them is sampled. The chain has
        accepted the token; the grammar has not.
        """
        if not disallowed and not self._grammar:
            return self._sample_by_chain(context, index)
        if not disallowed:
            # As in llama.cpp: check the sampled token first, the whole vocabulary only if needed.
            before = lib.llama_sampler_clone(self._chain)
            token = self._sample_by_chain(context, index)
            if _allows(self._grammar, token):
                lib.llama_sampler_free(before)
                return token
            lib.llama_sampler_free(self._chain)
            self._chain = before
        data = self._candidates(logits, disallowed)
        return self._sample_from(self._candidates(logits, ()) if data is None else data)

    def accept(self, token: int, *, ends_answer: bool) -> None:
        """Advance the grammar by the sampled token."""
        if self._grammar and not ends_answer:
            lib.llama_sampler_accept(self._grammar, token)

    def _sample_by_chain(self, context: Any, index: int) -> int:
        return int(lib.llama_sampler_sample(self._chain, context, index))

    def _candidates(self, logits: F32, disallowed: Collection[int]) -> NDArray[np.void] | None:
        """llama_token_data with -inf for impossible tokens; None if all disallowing leaves none."""
        data = np.empty(len(logits), _TOKEN_DATA)
        data["id"], data["logit"], data["p"] = np.arange(len(logits)), logits, 0
        data["logit"][list(disallowed)] = _NEVER
        if self._grammar:
            lib.llama_sampler_apply(self._grammar, ctypes.byref(_array(data)))
        return data if not disallowed or data["logit"].max() > _NEVER else None

    def _sample_from(self, data: NDArray[np.void] | None) -> int:
        assert data is not None
        array = _array(data)
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        lib.llama_sampler_accept(self._chain, token)
        return token


def _array(data: NDArray[np.void]) -> lib.llama_token_data_array:
    pointer = data.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
    return lib.llama_token_data_array(pointer, len(data), -1, False)


def _chain(samplers: list[Any]) -> Any:
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(chain, sampler)
    return chain


def _samplers(sampling: Sampling, vocab: Any, n_vocab: int) -> list[Any]:
    """In the order of common_sampler_init (llama.cpp, common/sampling.cpp)."""
    samplers = [_bias(sampling.logit_bias, n_vocab)] if sampling.logit_bias else []
    make = _factories(sampling, vocab, n_vocab)
    if sampling.temperature == 0:
        samplers += [make[name]() for name in sampling.samplers if name in ("penalties", "dry")]
        return [*samplers, lib.llama_sampler_init_greedy()]
    if not sampling.mirostat:
        samplers += [make[name]() for name in sampling.samplers]
        return [*samplers, lib.llama_sampler_init_dist(sampling.seed)]
    samplers += [make[name]() for name in sampling.samplers if name == "penalties"]
    samplers.append(lib.llama_sampler_init_temp(sampling.temperature))
    tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
    if sampling.mirostat == 1:
        mirostat = lib.llama_sampler_init_mirostat(n_vocab, sampling.seed, tau, eta, _MIROSTAT_M)
    else:
        mirostat = lib.llama_sampler_init_mirostat_v2(sampling.seed, tau, eta)
    return [*samplers, mirostat]


def _factories(s: Sampling, vocab: Any, n_vocab: int) -> dict[str, Callable[[], Any]]:
    """Sampler name to a function that creates it."""
    return {
        "penalties": lambda: lib.llama_sampler_init_penalties(
            n_vocab,
            s.repeat_last_n,
            s.repeat_penalty,
            s.frequency_penalty,
            s.presence_penalty,
        ),
        "dry": lambda: _dry(s, vocab),
        "top_n_sigma": lambda: lib.llama_sampler_init_top_n_sigma(s.top_n_sigma),
        "top_k": lambda: lib.llama_sampler_init_top_k(s.top_k),
        "typ_p": lambda: lib.llama_sampler_init_typical(s.typical_p, 1),
        "top_p": lambda: lib.llama_sampler_init_top_p(s.top_p, 1),
        "min_p": lambda: lib.llama_sampler_init_min_p(s.min_p, 1),
        "xtc": lambda: lib.llama_sampler_init_xtc(s.xtc_probability, s.xtc_threshold, 1, s.seed),
        "temperature": lambda: lib.llama_sampler_init_temp_ext(
            s.temperature, s.dynatemp_range, s.dynatemp_exponent
        ),
    }


def _dry(sampling: Sampling, vocab: Any) -> Any:
    texts = [text.encode(errors="replace") for text in sampling.dry_sequence_breakers]
    array = (ctypes.c_char_p * len(texts))(*texts)
    return lib.llama_sampler_init_dry(
        vocab,
        sampling.dry_multiplier,
        sampling.dry_base,
        sampling.dry_allowed_length,
        sampling.dry_penalty_last_n,
        array,
        len(texts),
    )


def _bias(pairs: Collection[tuple[int, float]], n_vocab: int) -> Any:
    valid = [pair for pair in pairs if 0 <= pair[0] < n_vocab]
    array = (lib.llama_logit_bias * len(valid))(*(lib.llama_logit_bias(*pair) for pair in valid))
    return lib.llama_sampler_init_logit_bias(n_vocab, len(valid), array)


def _allows(grammar: Any, token: int) -> bool:
    data = (lib.llama_token_data * 1)(lib.llama_token_data(token, 1.0, 0.0))
    array = lib.llama_token_data_array(data, 1, -1, False)
    lib.llama_sampler_apply(grammar, ctypes.byref(array))
    return bool(data[0].logit != _NEVER)
