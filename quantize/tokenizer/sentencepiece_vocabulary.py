"""SentencePiece vocabularies to GGUF: tokenizer.model, or the same saved as tokenizer.json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFValueType, TokenType
from sentencepiece import SentencePieceProcessor

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.common.json_files import MAX_BYTES, read_object
from franken_gguf.quantize.gguf_file.values import Metadata, array, string

from .tokenizer_json import JsonTokenizer, looks_special

_ADDED_SCORE = -1000.0
_PADDING_SCORE = -10000.0


@dataclass(frozen=True)
class Entry:
    """One token as GGUF stores it."""

    text: str
    score: float
    type: TokenType


def sentencepiece_vocabulary(folder: Path, config: dict[str, Any], vocab_size: int) -> Metadata:
    """The vocabulary of tokenizer.model and of the tokens added to it later.

    Ids below `vocab_size` without a token become unused [PADn]; ids from it on are left out, since
    the model has no embedding for them. `config` is tokenizer_config.json. Raises
    TokenizerError.
    """
    model = load_sentencepiece(folder)
    entries = _padding(vocab_size)
    for id_, entry in enumerate(_pieces(model)):
        if id_ >= vocab_size:
            break
        entries[id_] = entry
    for id_, entry in added_tokens(folder, config, model.vocab_size()):
        if id_ < vocab_size:
            entries[id_] = entry
    return _metadata(entries)


def json_vocabulary(
    folder: Path, document: dict[str, Any], config: dict[str, Any], vocab_size: int
) -> Metadata:
    """The vocabulary of a SentencePiece model that exists only as tokenizer.json (`document`).

    Such a file has merges where tokenizer.model has scores. The best merge comes first, so the
    score of a token is minus the index of its first merge, as in the original tokenizer.model, and
    llama.cpp merges in the same order. (llama.cpp's converter gives every token -1000, which
    splits text differently.) Padding to `vocab_size` is as in sentencepiece_vocabulary. Raises
    TokenizerError.
    """
    tokenizer = JsonTokenizer(folder, document, config)
    tokenizer.check_size(vocab_size)
    scores = _scores_of_merges(document["model"].get("merges") or [])
    unknown = document["model"].get("unk_token")
    entries = _padding(vocab_size)
    for text, id_ in tokenizer.vocab.items():
        if text == unknown:
            entries[id_] = Entry(text, 0.0, TokenType.UNKNOWN)
        elif re.fullmatch("<0x[0-9A-Fa-f]{2}>", text):
            entries[id_] = Entry(text, 0.0, TokenType.BYTE)
        elif id_ in tokenizer.added:
            entries[id_] = _added(text, tokenizer.added[id_].special)
        else:
            entries[id_] = Entry(text, scores.get(text, 0.0), TokenType.NORMAL)
    return _metadata(entries)


def is_sentencepiece_json(document: dict[str, Any]) -> bool:
    """Whether tokenizer.json holds a SentencePiece model: BPE on characters with byte fallback."""
    model, decoder = document.get("model"), document.get("decoder")
    return (
        isinstance(model, dict)
        and model.get("type") == "BPE"
        and model.get("byte_fallback") is True
        and isinstance(decoder, dict)
        and decoder.get("type") == "Sequence"
    )


def load_sentencepiece(folder: Path, space_prefix: bool | None = None) -> SentencePieceProcessor:
    """Load tokenizer.model; `space_prefix`, if given, overrides its add_dummy_prefix.

    Raises TokenizerError.
    """
    path = folder / "tokenizer.model"
    # Of concatenated protobuf messages, the last value of a field counts. This message is
    # ModelProto.normalizer_spec (3) .add_dummy_prefix (3).
    override = b"" if space_prefix is None else bytes([0x1A, 2, 0x18, space_prefix])
    try:
        # From zero bytes the library makes a processor without pieces and raises no error.
        if not 0 < path.stat().st_size <= MAX_BYTES:
            raise ValueError
        # Read here, because the library cannot open every path that Python can.
        return SentencePieceProcessor(model_proto=path.read_bytes() + override)
    except (OSError, RuntimeError, ValueError):
        raise TokenizerError(
            f"{path}: not a SentencePiece model; download the file again"
        ) from None


def added_tokens(
    folder: Path, config: dict[str, Any], base_size: int
) -> Iterator[tuple[int, Entry]]:
    """(id, token) from tokenizer.json, added_tokens.json and tokenizer_config.json (`config`).

    An id can occur more than once; the last one counts. tokenizer.json is read only for ids beyond
    the `base_size` pieces of the model. llama.cpp's converter does not read it, and writes a [PADn]
    for tokens that transformers 5 stores only there. Raises TokenizerError.
    """
    for id_, token, special in _tokenizer_json(folder):
        if id_ >= base_size:
            yield id_, _added(token, special)
    for id_, token in _added_tokens_json(folder):
        yield id_, Entry(token, _ADDED_SCORE, TokenType.USER_DEFINED)
    for id_, token, special in _added_tokens_decoder(folder, config):
        yield id_, _added(token, special)


def _pieces(model: SentencePieceProcessor) -> Iterator[Entry]:
    for id_ in range(model.vocab_size()):
        kind = TokenType.NORMAL
        if model.IsUnknown(id_):
            kind = TokenType.UNKNOWN
        elif model.IsControl(id_):
            kind = TokenType.CONTROL
        elif model.IsUnused(id_):
            kind = TokenType.UNUSED
        elif model.IsByte(id_):
            kind = TokenType.BYTE
        yield Entry(model.IdToPiece(id_), model.GetScore(id_), kind)


def _tokenizer_json(folder: Path) -> Iterator[tuple[int, str, bool]]:
    path = folder / "tokenizer.json"
    tokens = read_object(path, TokenizerError).get("added_tokens") if path.is_file() else None
    for token in tokens if isinstance(tokens, list) else []:
        entry = token if isinstance(token, dict) else {}
        id_, content = entry.get("id"), entry.get("content")
        if isinstance(id_, bool) or not isinstance(id_, int) or not isinstance(content, str):
            raise TokenizerError(f"{path}: added_tokens has an invalid entry; download it again")
        yield id_, content, bool(entry.get("special"))


def _added_tokens_json(folder: Path) -> Iterator[tuple[int, str]]:
    path = folder / "added_tokens.json"
    if path.is_file():
        for token, id_ in read_object(path, TokenizerError).items():
            if isinstance(id_, bool) or not isinstance(id_, int) or id_ < 0:
                raise TokenizerError(
                    f"{path}: {ascii(token)[:60]} has an invalid token id; download it again"
                )
            yield id_, token


def _added_tokens_decoder(folder: Path, config: dict[str, Any]) -> Iterator[tuple[int, str, bool]]:
    path = folder / "tokenizer_config.json"
    entries = config.get("added_tokens_decoder") or {}
    if not isinstance(entries, dict):
        raise TokenizerError(f"{path}: added_tokens_decoder is not an object; download it again")
    for id_, entry in entries.items():
        content = entry.get("content") if isinstance(entry, dict) else None
        if not id_.isdecimal() or len(id_) > 10 or not isinstance(content, str):
            raise TokenizerError(
                f"{path}: added_tokens_decoder[{ascii(id_)[:60]}] is invalid; download it again"
            )
        yield int(id_), content, bool(entry.get("special"))


def _added(token: str, special: bool) -> Entry:
    if special or looks_special(token):
        return Entry(token, _ADDED_SCORE, TokenType.CONTROL)
    return Entry(token.replace("▁", " "), _ADDED_SCORE, TokenType.USER_DEFINED)


def _padding(count: int) -> list[Entry]:
    return [Entry(f"[PAD{id_}]", _PADDING_SCORE, TokenType.UNUSED) for id_ in range(count)]


def _scores_of_merges(merges: list[Any]) -> dict[str, float]:
    """Token -> score. If several merges make one token, the first counts."""
    scores: dict[str, float] = {}
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        scores.setdefault("".join(parts), -float(len(scores)))
    return scores


def _metadata(entries: list[Entry]) -> Metadata:
    return {
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.pre": string("default"),
        "tokenizer.ggml.tokens": array(GGUFValueType.STRING, [e.text for e in entries]),
        "tokenizer.ggml.scores": array(GGUFValueType.FLOAT32, [e.score for e in entries]),
        "tokenizer.ggml.token_type": array(GGUFValueType.INT32, [int(e.type) for e in entries]),
    }
