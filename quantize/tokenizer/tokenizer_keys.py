"""Tokenizer files of a checkpoint to the GGUF keys `tokenizer.*`, in the converter's order."""

from __future__ import annotations

import string as ascii_sets
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.common.json_files import read_object, read_text
from franken_gguf.quantize.gguf_file.values import Metadata, array, boolean, string, u32

from .byte_level_bpe import bpe_vocabulary
from .sentencepiece_vocabulary import (
    is_sentencepiece_json,
    json_vocabulary,
    sentencepiece_vocabulary,
)
from .special_tokens import normalizer_flags, special_tokens

_CODE_LLAMA_VOCAB = 32016
_CODE_LLAMA_EOT = 32010
_GRANITE_VOCAB = 49152


def tokenizer_metadata(folder: Path, vocab_size: int, *, is_llama: bool = True) -> Metadata:
    """Vocabulary, special tokens and chat templates of `folder`, for a model of `vocab_size` rows.

    `is_llama` adds what the converter writes for llama.cpp's architecture `llama` alone.

    tokenizer.model is used if it exists; otherwise tokenizer.json, which can hold a SentencePiece
    model or a byte-level BPE. Raises TokenizerError if neither exists, if they are malformed, or if
    llama.cpp has no such tokenizer.
    """
    document = _optional(folder / "tokenizer.json")
    config = _optional(folder / "tokenizer_config.json")
    metadata: Metadata = {}
    if (prefix := config.get("add_prefix_space")) is not None:
        if not isinstance(prefix, bool):
            raise TokenizerError(
                f"{folder / 'tokenizer_config.json'}: add_prefix_space is neither true nor false"
            )
        if is_llama or (folder / "tokenizer.model").is_file():
            metadata["tokenizer.ggml.add_space_prefix"] = boolean(prefix)
    n_vocab: int | None = vocab_size
    if (folder / "tokenizer.model").is_file():
        metadata |= sentencepiece_vocabulary(folder, config, vocab_size)
    elif is_sentencepiece_json(document):
        metadata |= json_vocabulary(folder, document, config, vocab_size)
    else:
        _check_is_bpe(folder, document)
        metadata |= bpe_vocabulary(folder, document, config, vocab_size)
        n_vocab = None
    metadata |= special_tokens(folder, document, config, n_vocab)
    metadata |= chat_templates(folder, config)
    metadata |= normalizer_flags(document.get("normalizer"))
    # Two families that the converter recognizes by the size of their vocabulary.
    if is_llama and vocab_size == _CODE_LLAMA_VOCAB:
        metadata.setdefault("tokenizer.ggml.eot_token_id", u32(_CODE_LLAMA_EOT))
    if is_llama and vocab_size == _GRANITE_VOCAB:
        metadata["tokenizer.ggml.add_bos_token"] = boolean(False)
    return metadata


def chat_templates(folder: Path, config: dict[str, Any]) -> Metadata:
    """The chat template, and any named ones beside it.

    The first of these that exists: `chat_template` in tokenizer_config.json (a string, or a list of
    named ones); chat_template.jinja with additional_chat_templates/*.jinja; chat_template.json.
    Raises TokenizerError.
    """
    found = config.get("chat_template")
    where = folder / "tokenizer_config.json"
    if found is None and (where := folder / "chat_template.jinja").is_file():
        found = [{"name": "default", "template": read_text(where, TokenizerError)}]
        for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
            found.append({"name": path.stem, "template": read_text(path, TokenizerError)})
    if found is None and (where := folder / "chat_template.json").is_file():
        found = read_object(where, TokenizerError).get("chat_template")
    if found is None:
        return {}
    named = _named_templates(where, found)
    default = named.pop("default", None)
    metadata = {f"tokenizer.chat_template.{name}": string(named[name]) for name in named}
    if named:
        names = array(GGUFValueType.STRING, sorted(named))
        metadata["tokenizer.chat_templates"] = names
    if default is not None:
        metadata["tokenizer.chat_template"] = string(default)
    return metadata


def _named_templates(where: Path, found: Any) -> dict[str, str]:
    """Name -> template. In a name, every character but ASCII letters and digits becomes "_"."""
    if isinstance(found, str):
        return {"default": found}
    allowed = ascii_sets.ascii_letters + ascii_sets.digits
    named = {}
    for choice in found if isinstance(found, list) else [found]:
        entry = choice if isinstance(choice, dict) else {}
        name, template = entry.get("name"), entry.get("template")
        if not isinstance(name, str) or not isinstance(template, str):
            raise TokenizerError(
                f"{where}: chat_template is neither text nor a list of named templates"
            )
        name = "".join(letter if letter in allowed else "_" for letter in name)
        if name:
            named[name] = template
    return named


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path, TokenizerError) if path.is_file() else {}


def _check_is_bpe(folder: Path, document: dict[str, Any]) -> None:
    if not document:
        raise TokenizerError(
            f"{folder}: has neither tokenizer.model nor tokenizer.json; copy the tokenizer files "
            "of the base model into it"
        )
    model = document.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind != "BPE":
        raise TokenizerError(
            f"{folder / 'tokenizer.json'}: the tokenizer type {ascii(kind)[:40]} is not "
            "supported; only SentencePiece and byte-level BPE are"
        )
