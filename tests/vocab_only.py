"""llama.cpp's tokenizer on metadata of ours: a GGUF without tensors, loaded for its vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp
from gguf import GGUFWriter

from franken_gguf.quantize.gguf_types import Metadata


@llama_cpp.llama_log_callback
def _quiet(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """Drop the log: its lines may cut a token in the middle of a UTF-8 sequence."""


def write_vocabulary(path: Path, metadata: Metadata) -> Path:
    """A GGUF of metadata alone."""
    writer = GGUFWriter(path, "llama")
    for key, value in metadata.items():
        if key != "general.architecture":
            writer.add_key_value(key, value.data, value.type, value.item_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@contextmanager
def llama_tokenizer(path: Path) -> Iterator[Callable[[str], list[int]]]:
    """llama_tokenize of a GGUF, special tokens parsed and none added."""
    llama_cpp.llama_log_set(_quiet, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, f"llama.cpp does not load {path}"
    vocab = llama_cpp.llama_model_get_vocab(model)

    def tokenize(text: str) -> list[int]:
        raw = text.encode()
        room = len(raw) + 16
        ids = (ctypes.c_int32 * room)()
        count = llama_cpp.llama_tokenize(vocab, raw, len(raw), ids, room, False, True)
        assert count >= 0
        return list(ids[:count])

    try:
        yield tokenize
    finally:
        llama_cpp.llama_model_free(model)
