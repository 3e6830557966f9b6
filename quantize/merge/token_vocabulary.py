"""The vocabularies of a merge's models, and how they differ: experts get the mixture's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from filecmp import cmpfiles
from pathlib import Path
from typing import NamedTuple

from gguf import GGUFValueType, TokenType

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tokenizer.tokenizer_keys import tokenizer_metadata

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json")
_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_MOST_LISTED = 4

MOST_NEW = 1 << 12
"""Tokens that can be added to a vocabulary; with more it counts as another vocabulary."""


class Token(NamedTuple):
    """A token of a model, as in a GGUF file."""

    text: str
    type: int
    """gguf.TokenType; NORMAL if a GGUF file has no types."""

    @property
    def is_added(self) -> bool:
        """Whether it is matched in text as a whole, not built by merges."""
        return self.type in (TokenType.CONTROL, TokenType.USER_DEFINED)


def named_tokens(path: Path) -> dict[int, Token]:
    """Token id to token, without unused ones; {} without a tokenizer.

    For a folder, all tokens that its tokenizer's files name, even those without an embedding.
    Raises a FrankenError.
    """
    if not path.is_dir():
        metadata = read_header(path).metadata
    elif any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        metadata = tokenizer_metadata(path, read_config(path).vocab_size + MOST_NEW)
    else:
        return {}
    tokens, types = metadata.get(_TOKENS), metadata.get(_TYPES)
    if tokens is None or tokens.item_type is not GGUFValueType.STRING:
        return {}
    if types is None or len(types.data) != len(tokens.data):
        kinds = [int(TokenType.NORMAL)] * len(tokens.data)
    else:
        kinds = types.data
    return {
        number: Token(str(text), kind)
        for number, (text, kind) in enumerate(zip(tokens.data, kinds, strict=True))
        if kind != TokenType.UNUSED
    }


def is_foreign(tokens: dict[int, Token], base: dict[int, Token]) -> bool:
    """Whether most ids are other tokens in the base model."""
    return 2 * _count_different(tokens, base) > len(tokens)


def same_tokenizer(base: Path, path: Path) -> bool:
    """Whether the tokenizers' files are equal: faster than reading both tokenizers."""
    if path == base:
        return True
    present = [name for name in _FILES if (base / name).is_file() or (path / name).is_file()]
    _, different, missing = cmpfiles(base, path, present, shallow=False)
    return path.is_dir() and not different and not missing


def vocabulary_notices(base: Path, experts: Sequence[Path]) -> list[str]:
    """A line for each expert whose tokens are not the base model's.

    Experts without a readable tokenizer are left out: only the base model's is needed.
    """
    models = [path for path in dict.fromkeys(experts) if not same_tokenizer(base, path)]
    known = _embedded_tokens(base) if models else {}
    if not known:
        return []
    return [line for path in models if (line := _difference(path, known, _embedded_tokens(path)))]


def listed(texts: Sequence[str]) -> str:
    """The first few texts, separated by commas."""
    return ", ".join(texts[:_MOST_LISTED]) + (", ..." if len(texts) > _MOST_LISTED else "")


def _difference(path: Path, base: dict[int, Token], expert: dict[int, Token]) -> str:
    if is_foreign(expert, base):
        return (
            f"{path}: {_count_different(expert, base):,} of its {len(expert):,} tokens are "
            "different in the base model: it was trained on another vocabulary and will not "
            "understand the mixture's tokens; leave it out"
        )
    known = {token.text for token in base.values()}
    new = sorted(token.text for token in expert.values() if token.text not in known)
    if not new:
        return ""
    return (
        f"{path}: has {len(new):,} {'token' if len(new) == 1 else 'tokens'} that the base model "
        f"lacks ({listed(new)}); to keep them, write tokenizer_source: union"
    )


def _count_different(tokens: dict[int, Token], base: dict[int, Token]) -> int:
    return sum(id_ in base and base[id_].text != token.text for id_, token in tokens.items())


def _embedded_tokens(path: Path) -> dict[int, Token]:
    """The tokens that have an embedding; {} if they cannot be read."""
    try:
        tokens = named_tokens(path)
        count = read_config(path).vocab_size if path.is_dir() else max(tokens, default=0) + 1
    except FrankenError:
        return {}
    return {id_: token for id_, token in tokens.items() if id_ < count}
