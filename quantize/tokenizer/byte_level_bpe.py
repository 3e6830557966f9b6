"""Byte-level BPE (tokenizer.json) to GGUF: tokens, types, merges and the pre-tokenizer."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import GGUFValueType, TokenType
from tokenizers import AddedToken

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.gguf_file.values import Metadata, array, string

from .pretokenizer import CHECK_TEXT, PRE_BY_HASH, PRE_BY_STEPS
from .tokenizer_json import JsonTokenizer, looks_special


def bpe_vocabulary(
    folder: Path, document: dict[str, Any], config: dict[str, Any], vocab_size: int
) -> Metadata:
    """The keys model, pre, tokens, token_type and merges, padded with [PADn] to `vocab_size`.

    `document` and `config` are tokenizer.json and tokenizer_config.json. Raises TokenizerError if
    the tokenizer has no merges, has a pre-tokenizer that llama.cpp does not know, or has more
    tokens than the model.
    """
    tokenizer = JsonTokenizer(folder, document, config)
    tokenizer.check_size(vocab_size)
    pre = _pre(tokenizer, config)
    tokens = [f"[PAD{id_}]" for id_ in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for token, id_ in tokenizer.vocab.items():
        tokens[id_], types[id_] = token, int(TokenType.NORMAL)
        if id_ in tokenizer.added:
            tokens[id_], types[id_] = _added(tokenizer, tokenizer.added[id_])
    return {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(pre),
        "tokenizer.ggml.tokens": array(GGUFValueType.STRING, tokens),
        "tokenizer.ggml.token_type": array(GGUFValueType.INT32, types),
        "tokenizer.ggml.merges": array(GGUFValueType.STRING, _merges(tokenizer)),
    }


def _added(tokenizer: JsonTokenizer, token: AddedToken) -> tuple[str, int]:
    """Text and type of an added token; llama.cpp matches it before it normalizes the input."""
    text: str = token.content
    if not token.normalized:
        text = tokenizer.text(tokenizer.ids(text))
    if token.special or looks_special(text):
        return text, int(TokenType.CONTROL)
    return text.replace("▁", " "), int(TokenType.USER_DEFINED)


def _merges(tokenizer: JsonTokenizer) -> list[str]:
    """Merges as "left right"; a space inside a part is written as "Ġ", its byte-level form."""
    merges = tokenizer.document["model"].get("merges")
    if not merges:
        raise TokenizerError(
            f"{tokenizer.path}: has no merges, which llama.cpp's BPE needs; use another tokenizer"
        )
    return [
        merge if isinstance(merge, str) else " ".join(part.replace(" ", "Ġ") for part in merge)
        for merge in merges
    ]


def _pre(tokenizer: JsonTokenizer, config: dict[str, Any]) -> str:
    """llama.cpp's name for this pre-tokenizer, found by its ids or by its steps."""
    plain = tokenizer.ids(CHECK_TEXT)
    for ids in (tokenizer.ids(CHECK_TEXT, ends=True), plain, *_with_ends(tokenizer, config, plain)):
        digest = sha256(str(ids).encode()).hexdigest()
        if digest in PRE_BY_HASH:
            return PRE_BY_HASH[digest]
    steps = _steps(tokenizer.document.get("pre_tokenizer"))
    pre = PRE_BY_STEPS.get(steps)
    # llama.cpp's llama-bpe looks up whole words before it merges; the other three do not.
    ignores_merges = bool(tokenizer.document["model"].get("ignore_merges"))
    if pre and ignores_merges == (pre == "llama-bpe"):
        return pre
    digest = sha256(str(plain).encode()).hexdigest()
    shown = ascii(" + ".join(kind for kind, _ in steps) or "none")[1:-1]
    raise TokenizerError(
        f"{tokenizer.path}: llama.cpp has no known equivalent of this pre-tokenizer "
        f"(pre_tokenizer {shown[:80]}, hash {digest[:16]}); use a tokenizer that it supports"
    )


def _with_ends(
    tokenizer: JsonTokenizer, config: dict[str, Any], plain: list[int]
) -> list[list[int]]:
    """`plain` with the bos and eos tokens of tokenizer_config.json around it."""
    bos = tokenizer.token_id(config.get("bos_token"))
    eos = tokenizer.token_id(config.get("eos_token"))
    if bos is None:
        return []
    return [[bos, *plain]] + ([] if eos is None else [[bos, *plain, eos]])


def _steps(section: Any) -> tuple[tuple[str, Any], ...]:
    """A pre_tokenizer section as (type, the option that changes where it splits) for each step."""
    if not isinstance(section, dict):
        return ()
    kind = str(section.get("type"))
    if kind == "Sequence":
        return tuple(step for part in section["pretokenizers"] for step in _steps(part))
    option: object = None
    if kind == "ByteLevel" and not section.get("add_prefix_space"):
        option = section.get("use_regex", True)
    elif kind == "Digits":
        option = section.get("individual_digits", False)
    elif kind == "Split" and section.get("behavior") == "Isolated" and not section.get("invert"):
        pattern = section.get("pattern")
        option = pattern.get("Regex") if isinstance(pattern, dict) else None
    return ((kind, option),)
