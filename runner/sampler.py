"""The settings of sampling.py as llama.cpp's samplers, whose state can be copied."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from typing import Any

from llama_cpp import llama_cpp as lib

from .backend import log
from .sampling import Sampling, SamplingError

_NEVER = float("-inf")
_MIROSTAT_M = 100  # llama.cpp's: tokens that Mirostat 1 estimates its curve from


class Sampler:
    """Draws tokens. Close it; a copy draws on as the original would have, on its own."""

    def __init__(self, sampling: Sampling, vocab: Any, n_vocab: int) -> None:
        """`vocab` is a llama_vocab. Raises SamplingError for a grammar that is none."""
        self.sampling = sampling
        self._n_vocab = n_vocab
        self._chain = _chain(_samplers(sampling, vocab, n_vocab))
        self._grammar = None
        if sampling.grammar:
            log.clear()
            self._grammar = lib.llama_sampler_init_grammar(
                vocab, sampling.grammar.encode(errors="replace"), b"root"
            )
            if not self._grammar:
                self.close()
                raise SamplingError(f"the grammar cannot be read: {log.reason()}")

    def close(self) -> None:
        """Free it."""
        for sampler in filter(None, (self._chain, self._grammar)):
            lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def copy(self) -> Sampler:
        """One with the same state: settings, seed's place, what penalties have seen."""
        twin = object.__new__(Sampler)
        twin.sampling, twin._n_vocab = self.sampling, self._n_vocab
        twin._chain = lib.llama_sampler_clone(self._chain)
        twin._grammar = lib.llama_sampler_clone(self._grammar) if self._grammar else None
        return twin

    def reset(self) -> None:
        """Forget all that was drawn or seen; a random seed becomes another."""
        lib.llama_sampler_reset(self._chain)

    def see(self, prompt: Sequence[int]) -> None:
        """Let the penalties know the end of the prompt: llama.cpp tells them of answers alone."""
        last = max(self.sampling.repeat_last_n, self.sampling.dry_penalty_last_n)
        for token in prompt[-last:] if last else ():
            lib.llama_sampler_accept(self._chain, token)

    def draw(self, context: Any, barred: Collection[int] = ()) -> int:
        """The next token after the last in a llama_context, none of `barred`; it counts as said."""
        if not self._grammar:
            return self._drawn(context, [], barred)
        # As llama.cpp: the grammar looks at the whole vocabulary only where its draw is refused.
        before = lib.llama_sampler_clone(self._chain)
        token = self._drawn(context, [], barred)
        if _allows(self._grammar, token):
            lib.llama_sampler_free(before)
        else:
            lib.llama_sampler_free(self._chain)
            self._chain = before
            token = self._drawn(context, [self._grammar], barred)
        return token

    def accept(self, token: int, *, ends_answer: bool) -> None:
        """Tell the grammar of the token that was drawn."""
        if self._grammar and not ends_answer:
            lib.llama_sampler_accept(self._grammar, token)

    def _drawn(self, context: Any, first: list[Any], barred: Collection[int]) -> int:
        """One draw by the chain, behind `first`, which are not told of it."""
        if not first and not barred:
            return int(lib.llama_sampler_sample(self._chain, context, -1))
        # A grammar hears of the token in `accept`, so here a copy of it stands in.
        ahead = [lib.llama_sampler_clone(sampler) for sampler in first]
        if barred:
            ahead.append(_bias([(token, _NEVER) for token in barred], self._n_vocab))
        outer = _chain([*ahead, self._chain])
        token = int(lib.llama_sampler_sample(outer, context, -1))
        lib.llama_sampler_chain_remove(outer, len(ahead))
        lib.llama_sampler_free(outer)
        return token


def _chain(samplers: list[Any]) -> Any:
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(chain, sampler)
    return chain


def _samplers(sampling: Sampling, vocab: Any, n_vocab: int) -> list[Any]:
    """In the order that common_sampler_init (llama.cpp, common/sampling.cpp) puts them."""
    found = [_bias(sampling.logit_bias, n_vocab)] if sampling.logit_bias else []
    made = _makers(sampling, vocab, n_vocab)
    if sampling.temperature == 0:
        found += [made[name]() for name in sampling.samplers if name in ("penalties", "dry")]
        return [*found, lib.llama_sampler_init_greedy()]
    if not sampling.mirostat:
        found += [made[name]() for name in sampling.samplers]
        return [*found, lib.llama_sampler_init_dist(sampling.seed)]
    found += [made[name]() for name in sampling.samplers if name == "penalties"]
    found.append(lib.llama_sampler_init_temp(sampling.temperature))
    tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
    if sampling.mirostat == 1:
        mirostat = lib.llama_sampler_init_mirostat(n_vocab, sampling.seed, tau, eta, _MIROSTAT_M)
    else:
        mirostat = lib.llama_sampler_init_mirostat_v2(sampling.seed, tau, eta)
    return [*found, mirostat]


def _makers(sampling: Sampling, vocab: Any, n_vocab: int) -> dict[str, Callable[[], Any]]:
    one = sampling
    return {
        "penalties": lambda: lib.llama_sampler_init_penalties(
            n_vocab,
            one.repeat_last_n,
            one.repeat_penalty,
            one.frequency_penalty,
            one.presence_penalty,
        ),
        "dry": lambda: _dry(one, vocab),
        "top_n_sigma": lambda: lib.llama_sampler_init_top_n_sigma(one.top_n_sigma),
        "top_k": lambda: lib.llama_sampler_init_top_k(one.top_k),
        "typ_p": lambda: lib.llama_sampler_init_typical(one.typical_p, 1),
        "top_p": lambda: lib.llama_sampler_init_top_p(one.top_p, 1),
        "min_p": lambda: lib.llama_sampler_init_min_p(one.min_p, 1),
        "xtc": lambda: lib.llama_sampler_init_xtc(
            one.xtc_probability, one.xtc_threshold, 1, one.seed
        ),
        "temperature": lambda: lib.llama_sampler_init_temp_ext(
            one.temperature, one.dynatemp_range, one.dynatemp_exponent
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
    kept = [pair for pair in pairs if 0 <= pair[0] < n_vocab]
    array = (lib.llama_logit_bias * len(kept))(*(lib.llama_logit_bias(*pair) for pair in kept))
    return lib.llama_sampler_init_logit_bias(n_vocab, len(kept), array)


def _allows(grammar: Any, token: int) -> bool:
    data = (lib.llama_token_data * 1)(lib.llama_token_data(token, 1.0, 0.0))
    array = lib.llama_token_data_array(data, 1, -1, False)
    lib.llama_sampler_apply(grammar, ctypes.byref(array))
    return bool(data[0].logit != _NEVER)
