"""The tokens of a merge's models, and how they differ: an expert meets the mixture's alone."""

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
_NAMED = 4

MOST_NEW = 1 << 12
"""Tokens that may have been added to a vocabulary; more make another one."""


class Token(NamedTuple):
    """A token of a model, as GGUF keeps it."""

    text: str
    type: int
    """gguf.TokenType; NORMAL where a GGUF file does not say it."""

    @property
    def is_added(self) -> bool:
        """Whether it is found in text as it stands, and not put together by merges."""
        return self.type in (TokenType.CONTROL, TokenType.USER_DEFINED)


def named_tokens(path: Path) -> dict[int, Token]:
    """Token id to token, without what only fills up the embeddings; {} without a tokenizer.

    Of a folder, all that its tokenizer's files name, embedded or not. Raises a FrankenError.
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
    """Whether most ids mean something else than in the base model."""
    return 2 * _others(tokens, base) > len(tokens)


def same_tokenizer(base: Path, path: Path) -> bool:
    """Whether the tokenizer's files are the same, which is sooner seen than read."""
    if path == base:
        return True
    present = [name for name in _FILES if (base / name).is_file() or (path / name).is_file()]
    _, different, missing = cmpfiles(base, path, present, shallow=False)
    return path.is_dir() and not different and not missing


def vocabulary_notices(base: Path, experts: Sequence[Path]) -> list[str]:
    """A line for each expert whose tokens are not the base's; none where they are the same.

    A model without a tokenizer that can be read is left out: only the base's is needed.
    """
    models = [path for path in dict.fromkeys(experts) if not same_tokenizer(base, path)]
    known = _readable(base) if models else {}
    if not known:
        return []
    return [line for path in models if (line := _difference(path, known, _readable(path)))]


def listed(texts: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(texts[:_NAMED]) + (", ..." if len(texts) > _NAMED else "")


def _difference(path: Path, base: dict[int, Token], expert: dict[int, Token]) -> str:
    if is_foreign(expert, base):
        return (
            f"{path}: {_others(expert, base):,} of its {len(expert):,} tokens are others in the "
            "base model: it was trained on another vocabulary, and will not understand what it is "
            "given"
        )
    known = {token.text for token in base.values()}
    new = sorted(token.text for token in expert.values() if token.text not in known)
    if not new:
        return ""
    return (
        f"{path}: has {len(new):,} {'token' if len(new) == 1 else 'tokens'} that the base model "
        f"lacks ({listed(new)}); to keep them, write tokenizer_source: union"
    )


def _others(tokens: dict[int, Token], base: dict[int, Token]) -> int:
    return sum(id_ in base and base[id_].text != token.text for id_, token in tokens.items())


def _readable(path: Path) -> dict[int, Token]:
    """The tokens that have an embedding."""
    try:
        tokens = named_tokens(path)
        count = read_config(path).vocab_size if path.is_dir() else max(tokens, default=0) + 1
    except FrankenError:
        return {}
    return {id_: token for id_, token in tokens.items() if id_ < count}
