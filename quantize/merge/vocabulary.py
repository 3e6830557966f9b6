"""How the vocabularies of a merge's models differ: an expert meets the base's tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFValueType

from franken_gguf.quantize.config import read_config
from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.quantize.tokenizer import tokenizer_metadata

_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_UNUSED = 5  # gguf.TokenType.UNUSED: padding of the embeddings
_NAMED = 4


def vocabulary_notices(base: Path, experts: Sequence[Path]) -> list[str]:
    """A line for each expert whose tokens are not the base's; none where they are the same.

    A model without a tokenizer that can be read is left out: only the base's is needed.
    """
    models = [path for path in dict.fromkeys(experts) if path != base]
    known = _tokens(base) if models else None
    if known is None:
        return []
    vocabularies = ((path, _tokens(path)) for path in models)
    return [
        line
        for path, tokens in vocabularies
        if tokens is not None and (line := _difference(path, known, tokens))
    ]


def _difference(path: Path, base: dict[int, str], expert: dict[int, str]) -> str:
    others = sum(base.get(number, text) != text for number, text in expert.items())
    new = sorted(set(expert.values()) - set(base.values()))
    if others * 2 > len(expert):
        return (
            f"{path}: {others:,} of its {len(expert):,} tokens are others in the base model: it "
            "was trained on another vocabulary, and will not understand what it is given"
        )
    if not new:
        return ""
    named = ", ".join(new[:_NAMED]) + (", ..." if len(new) > _NAMED else "")
    return (
        f"{path}: has {len(new):,} {'token' if len(new) == 1 else 'tokens'} that the base model "
        f"lacks ({named}); to keep them, make it the base_model"
    )


def _tokens(path: Path) -> dict[int, str] | None:
    """Token id to text, without what only fills up the embeddings."""
    try:
        if path.is_dir():
            metadata = tokenizer_metadata(path, read_config(path).vocab_size)
        else:
            metadata = read_header(path).metadata
    except FrankenError:
        return None
    tokens, types = metadata.get(_TOKENS), metadata.get(_TYPES)
    if tokens is None or tokens.item_type is not GGUFValueType.STRING:
        return None
    kinds = types.data if types and len(types.data) == len(tokens.data) else [0] * len(tokens.data)
    return {
        number: str(text)
        for number, (text, kind) in enumerate(zip(tokens.data, kinds, strict=True))
        if kind != _UNUSED
    }
