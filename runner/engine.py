"""The only file that loads a model through llama.cpp; it knows nothing of chats or templates."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import Header, read_header

from .devices import available_memory
from .sampling import Sampling
from .terminal import size

DEFAULT_N_CTX = 4096
# Tokens evaluated at once: large enough for full speed, small enough that a stop is heard between.
_N_BATCH = 512
_MAX_TOKENS = 1 << 28


class EngineError(FrankenError):
    """llama.cpp refused the model or the request; the text carries its reason and the mend."""


# ggml_log_level: 4 is ERROR, 5 CONT (the rest of the line before it).
_ERROR, _CONT = 4, 5
_MAX_LOG_LINES = 50


class _Log:
    """llama.cpp's log: nothing reaches the terminal, the last errors are kept for our one line."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=_MAX_LOG_LINES)
        self._level = 0

    def receive(self, level: int, text: bytes, _: object) -> None:
        if level != _CONT:
            self._level = level
        if self._level == _ERROR:
            line = text.decode(errors="replace").strip()
            if line:
                self.errors.append(line)

    def reason(self) -> str:
        """Why the last call failed, without llama.cpp's function names."""
        # The first error is the cause; those after it say who gave up because of it.
        line = self.errors[0] if self.errors else "it gives no reason"
        return re.sub(r"^([a-z_]\w*: |error loading model( \w+)?: )*", "", line)


_log = _Log()
# ctypes does not keep the callback alive: the module must.
_log_callback = lib.llama_log_callback(_log.receive)


@cache
def _start_backend() -> None:
    lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
    lib.llama_backend_init()


def _load_model(header: Header, params: lib.llama_model_params) -> Any:
    """A llama_model, for llama_model_free. Raises EngineError."""
    _start_backend()
    _log.errors.clear()
    model = lib.llama_model_load_from_file(os.fsencode(header.path), params)
    if not model:
        raise EngineError(f"{header.path}: llama.cpp cannot load it: {_log.reason()}")
    return model


class Vocabulary:
    """The tokenizer of a loaded model: text to token ids and token ids to bytes."""

    def __init__(self, header: Header, model: Any) -> None:
        self._vocab = lib.llama_model_get_vocab(model)
        _check_tokenizer(header, lib.llama_vocab_type(self._vocab))
        self.size = int(lib.llama_vocab_n_tokens(self._vocab))
        self._buffer = ctypes.create_string_buffer(256)

    def tokenize(self, text: str) -> list[int]:
        """The token ids of `text`; special tokens in it are recognized, none is added."""
        data = text.encode()
        room = len(data) + 8
        while True:
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, False, True)
            if count >= 0:
                return list(tokens[:count])
            if -count <= room or -count > _MAX_TOKENS:
                raise EngineError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
            # Normalization may lengthen a text: the negative count is the room it wants.
            room = -count

    def prompt(self, text: str) -> list[int]:
        """`tokenize`, after a BOS token where the model wants one and `text` does not have it."""
        tokens = self.tokenize(text)
        bos = lib.llama_vocab_bos(self._vocab)
        if lib.llama_vocab_get_add_bos(self._vocab) and bos >= 0 and tokens[:1] != [bos]:
            return [bos, *tokens]
        return tokens

    def piece(self, token: int) -> bytes:
        """The bytes of `token`, often a part of a character; none for a control token."""
        room = len(self._buffer)
        count = lib.llama_token_to_piece(self._vocab, token, self._buffer, room, 0, False)
        if count < 0:
            self._buffer = ctypes.create_string_buffer(-count)
            return self.piece(token)
        return self._buffer.raw[:count]

    def ends_answer(self, token: int) -> bool:
        """Whether `token` is one of the model's end tokens: EOS, EOT or EOM."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))


# llama_vocab_type: 0 is none, 1 SentencePiece's BPE.
_NO_VOCABULARY, _SENTENCEPIECE = 0, 1


def _check_tokenizer(header: Header, kind: int) -> None:
    # Both would end the whole process inside llama_tokenize.
    if kind == _NO_VOCABULARY:
        raise EngineError(f"{header.path}: holds no tokenizer; convert it again with its tokenizer")
    if kind == _SENTENCEPIECE:
        stored = set(header.metadata["tokenizer.ggml.tokens"].data)
        if not all(f"<0x{byte:02X}>" in stored for byte in range(256)):
            raise EngineError(
                f"{header.path}: its SentencePiece tokens lack the 256 bytes, <0x00> to <0xFF>; "
                "convert it again with a tokenizer that has them"
            )


@contextmanager
def load_vocabulary(path: Path) -> Iterator[Vocabulary]:
    """The tokenizer of the GGUF file `path`, without its weights. Raises GGUFError, EngineError."""
    # llama.cpp asserts, hangs or allocates without bound on some damaged headers: ours goes first.
    header = read_header(path)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = _load_model(header, params)
    try:
        yield Vocabulary(header, model)
    finally:
        lib.llama_model_free(model)


@dataclass(frozen=True)
class LoadOptions:
    """What of a model goes where. None leaves the choice to the engine."""

    n_ctx: int | None = None
    """Tokens of context; 0 is all that the model was trained for, None that or 4096."""
    n_gpu_layers: int | None = None
    """Layers on the GPU; None is all where llama.cpp was built for one."""
    n_threads: int | None = None
    """None is one for each physical core that this process may use."""


class Engine:
    """A loaded model and its context. Close it, or use it in a `with` statement.

    `stop`, once set, ends a load or an evaluation soon, and a Generation after its current token.
    `on_progress` is called while loading with what part is done, 0 to 1. Raises EngineError.
    """

    def __init__(
        self,
        header: Header,
        options: LoadOptions = LoadOptions(),
        *,
        stop: threading.Event | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.header = header
        self.stop = threading.Event() if stop is None else stop
        self.n_ctx = _context_size(header, options.n_ctx)
        has_gpu = lib.llama_supports_gpu_offload()
        n_gpu_layers = options.n_gpu_layers
        if n_gpu_layers is None:
            n_gpu_layers = -1 if has_gpu else 0
        if n_gpu_layers == 0:
            _check_memory(header, self.n_ctx)
        self._evaluated: list[int] = []
        self._resources = ExitStack()
        try:
            self._load(n_gpu_layers, options.n_threads or default_threads(), on_progress)
        except BaseException:
            self.close()
            raise

    def _load(
        self, n_gpu_layers: int, n_threads: int, on_progress: Callable[[float], None]
    ) -> None:
        def progress(part: float, _: object) -> bool:
            on_progress(part)
            return not self.stop.is_set()

        params = lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.progress_callback = lib.llama_progress_callback(progress)
        try:
            model = _load_model(self.header, params)
        except EngineError:
            if self.stop.is_set():
                raise KeyboardInterrupt from None
            raise
        self._resources.callback(lib.llama_model_free, model)
        self._check_kind(model)
        self.vocabulary = Vocabulary(self.header, model)

        context_params = lib.llama_context_default_params()
        context_params.n_ctx = self.n_ctx
        context_params.n_batch = context_params.n_ubatch = _N_BATCH
        context_params.n_threads = context_params.n_threads_batch = n_threads
        _log.errors.clear()
        self._context = lib.llama_init_from_model(model, context_params)
        if not self._context:
            raise EngineError(
                f"{self.header.path}: no context of {self.n_ctx} tokens: {_log.reason()}; "
                "try a smaller one with -c"
            )
        self._resources.callback(lib.llama_free, self._context)
        self._memory = lib.llama_get_memory(self._context)
        # A llama_batch points to its tokens and does not keep them alive: they live here.
        self._batch: Any = (lib.llama_token * _N_BATCH)()
        self._abort = lib.ggml_abort_callback(lambda _: self.stop.is_set())

    def _check_kind(self, model: Any) -> None:
        if (
            lib.llama_model_has_encoder(model)
            or not lib.llama_model_has_decoder(model)
            or lib.llama_model_is_diffusion(model)
        ):
            raise EngineError(
                f"{self.header.path}: architecture {self.header.text('general.architecture')!r} "
                "does not write text token by token; take a decoder model"
            )

    def close(self) -> None:
        """Free the context and the model."""
        self._resources.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, max_tokens: int | None = None
    ) -> Generation:
        """An answer to `prompt`, token by token; only what differs from before is evaluated.

        Raises EngineError where the prompt leaves no room in the context.
        """
        if not prompt:
            raise EngineError("there is nothing to answer: the prompt is empty")
        if len(prompt) >= self.n_ctx:
            raise EngineError(
                f"the prompt is {len(prompt)} tokens, the context {self.n_ctx}; "
                "shorten it, or give more context with -c"
            )
        return Generation(self, list(prompt), sampling, max_tokens)

    def evaluate(self, tokens: Sequence[int]) -> int:
        """Bring the context to `tokens`; the logits of the last are then there to sample from.

        The longest common start of what is in the context stays. Gives the number of tokens that
        were evaluated. Raises EngineError, KeyboardInterrupt when `stop` was set.
        """
        kept = 0
        for old, new in zip(self._evaluated, tokens[:-1], strict=False):
            if old != new:
                break
            kept += 1
        self._forget_from(kept)
        kept = len(self._evaluated)
        # Heard at every node of the graph: too often for single tokens, right for a long prompt.
        lib.llama_set_abort_callback(self._context, self._abort, None)
        try:
            for start in range(kept, len(tokens), _N_BATCH):
                if self.stop.is_set():
                    raise KeyboardInterrupt
                self.decode(tokens[start : start + _N_BATCH])
        finally:
            lib.llama_set_abort_callback(self._context, lib.ggml_abort_callback(), None)
        return len(tokens) - kept

    def decode(self, tokens: Sequence[int]) -> None:
        """Add up to 512 `tokens` to the context. Raises EngineError, KeyboardInterrupt."""
        self._batch[: len(tokens)] = tokens
        _log.errors.clear()
        batch = lib.llama_batch_get_one(self._batch, len(tokens))
        status = lib.llama_decode(self._context, batch)
        if status == 0:
            self._evaluated += tokens
            return
        # A part of the batch may be in the context's memory: back to what is known.
        self._forget_from(len(self._evaluated))
        if status == _ABORTED:
            raise KeyboardInterrupt
        raise EngineError(f"llama.cpp cannot evaluate the prompt: {_log.reason()}")

    def _forget_from(self, count: int) -> None:
        if lib.llama_memory_seq_rm(self._memory, 0, count, -1):
            del self._evaluated[count:]
        else:  # a recurrent model's state cannot be cut
            lib.llama_memory_clear(self._memory, True)
            self._evaluated.clear()


_ABORTED = 2  # llama_decode's status


class Generation:
    """One answer: iterate over it for the token ids; its figures are right at any time.

    The end token is not among them. `finish` is "stop" (the model or who iterates ended it),
    "length" (max_tokens), "context" (it is full) or "interrupted".
    """

    def __init__(
        self, engine: Engine, prompt: list[int], sampling: Sampling, max_tokens: int | None
    ) -> None:
        self.finish = "stop"
        self.prompt_tokens = len(prompt)
        self.prompt_evaluated = 0
        self.prompt_seconds = 0.0
        self.tokens = 0
        self.seconds = 0.0
        """From the first token's end to the last's."""
        self._engine = engine
        self._prompt = prompt
        self._sampling = sampling
        self._room = engine.n_ctx - len(prompt)
        self._max_tokens = self._room if max_tokens is None else min(max_tokens, self._room)

    @property
    def tokens_per_second(self) -> float:
        """Speed of the answer, without the prompt's evaluation; 0 for less than two tokens."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 else 0.0

    def __iter__(self) -> Iterator[int]:
        engine = self._engine
        context, stop, ends_answer = engine._context, engine.stop, engine.vocabulary.ends_answer
        with _sampler(engine.vocabulary, self._sampling, self._prompt) as sampler:
            started = time.perf_counter()
            try:
                self.prompt_evaluated = engine.evaluate(self._prompt)
            except KeyboardInterrupt:
                self.finish = "interrupted"
                return
            first = 0.0
            while not stop.is_set():
                token = lib.llama_sampler_sample(sampler, context, -1)
                now = time.perf_counter()
                if not self.tokens:
                    first = now
                    self.prompt_seconds = now - started
                if ends_answer(token):
                    self.finish = "stop"
                    return
                self.tokens += 1
                self.seconds = now - first
                yield token
                if self.tokens >= self._max_tokens:
                    self.finish = "context" if self.tokens >= self._room else "length"
                    return
                engine.decode((token,))
            self.finish = "interrupted"


@contextmanager
def _sampler(vocabulary: Vocabulary, sampling: Sampling, prompt: list[int]) -> Iterator[Any]:
    """A llama_sampler chain in llama.cpp's own order, which has seen the end of the prompt."""
    params = lib.llama_sampler_chain_default_params()
    chain = lib.llama_sampler_chain_init(params)
    try:
        if sampling.repeat_penalty != 1 and sampling.repeat_last_n:
            penalties = lib.llama_sampler_init_penalties(
                vocabulary.size, sampling.repeat_last_n, sampling.repeat_penalty, 0.0, 0.0
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


def default_threads() -> int:
    """One for each physical core that this process may use: llama.cpp gains nothing from more."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        physical = min(physical, len(os.sched_getaffinity(0)))
    return physical


def _context_size(header: Header, wanted: int | None) -> int:
    trained = header.integer(f"{header.text('general.architecture')}.context_length")
    if trained < 1:
        raise EngineError(f"{header.path}: its context length is {trained}; the file is damaged")
    if wanted is None:
        return min(trained, DEFAULT_N_CTX)
    if wanted < 0 or wanted > trained:
        raise EngineError(
            f"{header.path}: was trained for a context of {trained} tokens, not {wanted}; "
            f"give -c {trained} or less"
        )
    return wanted or trained


def _check_memory(header: Header, n_ctx: int) -> None:
    weights = sum(tensor.nbytes for tensor in header.tensors)
    needed = weights + kv_cache_bytes(header, n_ctx)
    available = available_memory()
    if needed > available:
        raise EngineError(
            f"{header.path}: weights and a context of {n_ctx} take {size(needed)}, "
            f"{size(available)} of memory is free; take a smaller quant, or less context with -c"
        )


def kv_cache_bytes(header: Header, n_ctx: int) -> int:
    """Bytes of an F16 KV cache of `n_ctx` tokens; 0 where the file does not say enough."""
    arch = header.text("general.architecture")

    def number(key: str) -> int:
        value = header.metadata.get(f"{arch}.{key}")
        return value.data if value is not None and isinstance(value.data, int) else 0

    heads = number("attention.head_count_kv") or number("attention.head_count")
    head_size = number("embedding_length") // max(1, number("attention.head_count"))
    keys = number("attention.key_length") or head_size
    values = number("attention.value_length") or head_size
    return number("block_count") * n_ctx * heads * (keys + values) * 2
