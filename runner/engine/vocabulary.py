"""A model's tokenizer: text to token ids and token ids to bytes, with or without its weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import Header, read_header

from .backend import EngineError, loaded_model

_MAX_TOKENS = 1 << 28
_USUAL_BYTES = 256  # few tokens are longer


class Vocabulary:
    """The tokenizer of a loaded model: text to token ids and token ids to bytes."""

    def __init__(self, header: Header, model: Any) -> None:
        self.handle = lib.llama_model_get_vocab(model)
        """The llama_vocab, for llama.cpp's own functions."""
        _check_tokenizer(header, lib.llama_vocab_type(self.handle))
        self.size = int(lib.llama_vocab_n_tokens(self.handle))

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        """The token ids of `text`; none are added.

        The names of special tokens in it become these tokens, unless `parse_special` is False.
        """
        data = text.encode()
        room = len(data) + 8
        while True:
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(
                self.handle, data, len(data), tokens, room, False, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            if -count <= room or -count > _MAX_TOKENS:
                raise EngineError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
            # Normalization can lengthen a text: llama.cpp returns minus the size it needs.
            room = -count

    def prompt(self, text: str) -> list[int]:
        """`tokenize` with a leading BOS token, if the model uses one and `text` lacks it."""
        tokens = self.tokenize(text)
        if self.bos is not None and tokens[:1] != [self.bos]:
            return [self.bos, *tokens]
        return tokens

    @property
    def bos(self) -> int | None:
        """The BOS token, if the model is to have one in front of a text."""
        bos = int(lib.llama_vocab_bos(self.handle))
        return bos if lib.llama_vocab_get_add_bos(self.handle) and bos >= 0 else None

    def piece(self, token: int) -> bytes:
        """The bytes of `token`, often part of a character; empty for a control token."""
        return self._bytes(token, special=False)

    def spelling(self, token: int) -> bytes:
        """The bytes that `tokenize` turns into `token`; a control token's are its name."""
        return self._bytes(token, special=True)

    def _bytes(self, token: int, *, special: bool) -> bytes:
        # A buffer for each call: several threads may ask at once.
        buffer = ctypes.create_string_buffer(_USUAL_BYTES)
        count = lib.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = lib.llama_token_to_piece(self.handle, token, buffer, -count, 0, special)
        return buffer.raw[:count]

    def ends_answer(self, token: int) -> bool:
        """Whether `token` is one of the model's end tokens: EOS, EOT or EOM."""
        return bool(lib.llama_vocab_is_eog(self.handle, token))

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens for which `ends_answer` is true."""
        return tuple(filter(self.ends_answer, range(self.size)))


# llama_vocab_type: 0 means no tokenizer, 1 SentencePiece's BPE.
_NO_VOCABULARY, _SENTENCEPIECE = 0, 1


def _check_tokenizer(header: Header, kind: int) -> None:
    # Either of these aborts the process inside llama_tokenize.
    if kind == _NO_VOCABULARY:
        raise EngineError(f"{header.path}: has no tokenizer; convert it again with its tokenizer")
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
    # llama.cpp aborts, hangs or allocates without bound on some damaged headers: check it first.
    header = read_header(path)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    with ExitStack() as resources:
        with signals_held():
            model = resources.enter_context(loaded_model(header, params))
        yield Vocabulary(header, model)
