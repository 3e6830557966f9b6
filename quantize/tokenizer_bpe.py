"""Byte-level BPE (tokenizer.json) to GGUF: tokens, types, merges, and how text is cut before."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import GGUFValueType, TokenType
from tokenizers import AddedToken, Tokenizer

from .errors import TokenizerError
from .gguf_types import Metadata, array, string
from .tokenizer_pre import CHECK_TEXT, PRE_BY_HASH, PRE_BY_STEPS


def bpe_vocabulary(
    folder: Path, document: dict[str, Any], config: dict[str, Any], vocab_size: int
) -> Metadata:
    """model, pre, tokens, token types and merges, padded with [PADn] to `vocab_size`.

    `document` and `config` are tokenizer.json and tokenizer_config.json. Raises TokenizerError for
    a tokenizer that is no byte-level BPE, whose pre-tokenizer llama.cpp does not know, or that has
    more tokens than the model.
    """
    tokenizer = load_tokenizer(folder, config)
    vocab: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    if vocab and max(vocab.values()) >= vocab_size:
        raise TokenizerError(
            f"{folder / 'tokenizer.json'}: token id {max(vocab.values())} is beyond vocab_size "
            f"{vocab_size} of config.json; the tokenizer belongs to another model"
        )
    pre = _pre(folder, tokenizer, document, config)
    tokens = [f"[PAD{id_}]" for id_ in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    added = tokenizer.get_added_tokens_decoder()
    for token, id_ in vocab.items():
        tokens[id_], types[id_] = token, int(TokenType.NORMAL)
        if id_ in added:
            tokens[id_], types[id_] = _added(tokenizer, added[id_])
    return {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(pre),
        "tokenizer.ggml.tokens": array(GGUFValueType.STRING, tokens),
        "tokenizer.ggml.token_type": array(GGUFValueType.INT32, types),
        "tokenizer.ggml.merges": array(GGUFValueType.STRING, _merges(folder, document)),
    }


def load_tokenizer(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """tokenizer.json in the tokenizers library, ready to encode text of any length as it is.

    Tokens that stand in tokenizer_config.json alone are added, as transformers does.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as problem:  # The library raises bare Exceptions for whatever it cannot read.
        reason = " ".join(str(problem).split())[:200]
        raise TokenizerError(f"{path}: the tokenizers library cannot load it ({reason})") from None
    # The file may ask to cut or pad what is encoded: that is for training batches.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    extra = config.get("added_tokens_decoder")
    for id_, entry in sorted(_numbered(extra) if isinstance(extra, dict) else []):
        if id_ == tokenizer.get_vocab_size(with_added_tokens=True):
            flags = {name: entry.get(name) is True for name in _FLAGS}
            tokenizer.add_tokens([AddedToken(entry["content"], **flags)])
    return tokenizer


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _numbered(entries: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return [
        (int(id_), entry)
        for id_, entry in entries.items()
        if id_.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str)
    ]


def looks_special(token: str) -> bool:
    """Whether the converter takes an added token as control although it is not marked special."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<\uff5c") and token.endswith("\uff5c>"))  # DeepSeek
        or (token.startswith("<unused") and token.endswith(">"))
    )


def _added(tokenizer: Tokenizer, token: AddedToken) -> tuple[str, int]:
    """Text and type of an added token; llama.cpp looks for the text before it normalizes any."""
    text = token.content
    if not token.normalized:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        text = tokenizer.decode(ids, skip_special_tokens=False)
    if token.special or looks_special(text):
        return text, int(TokenType.CONTROL)
    return text.replace("▁", " "), int(TokenType.USER_DEFINED)


def _merges(folder: Path, document: dict[str, Any]) -> list[str]:
    """Merges as "left right"; in pairs, a space within a part becomes its byte-level stand-in."""
    merges = document["model"].get("merges")
    if not isinstance(merges, list) or not merges:
        raise TokenizerError(
            f"{folder / 'tokenizer.json'}: has no merges, and llama.cpp's BPE needs them"
        )
    return [
        merge if isinstance(merge, str) else " ".join(part.replace(" ", "Ġ") for part in merge)
        for merge in merges
    ]


def _pre(
    folder: Path, tokenizer: Tokenizer, document: dict[str, Any], config: dict[str, Any]
) -> str:
    plain = tokenizer.encode(CHECK_TEXT, add_special_tokens=False).ids
    for ids in (tokenizer.encode(CHECK_TEXT).ids, plain, *_with_ends(tokenizer, config, plain)):
        digest = sha256(str(ids).encode()).hexdigest()
        if digest in PRE_BY_HASH:
            return PRE_BY_HASH[digest]
    steps = _steps(document.get("pre_tokenizer"))
    pre = PRE_BY_STEPS.get(steps)
    # llama.cpp's llama-bpe looks a whole word up before it merges; the other three never do.
    if pre and bool(document["model"].get("ignore_merges")) == (pre == "llama-bpe"):
        return pre
    digest = sha256(str(plain).encode()).hexdigest()
    raise TokenizerError(
        f"{folder / 'tokenizer.json'}: llama.cpp has no pre-tokenizer known to cut text as this "
        f"one does (check hash {digest[:16]}, pre_tokenizer {' + '.join(s[0] for s in steps)}); "
        "convert with a tokenizer of a supported model"
    )


def _with_ends(tokenizer: Tokenizer, config: dict[str, Any], plain: list[int]) -> list[list[int]]:
    """The ids with the tokens that tokenizer_config.json itself adds around a text."""
    bos, eos = (
        tokenizer.token_to_id(token.get("content", "") if isinstance(token, dict) else str(token))
        for token in (config.get("bos_token"), config.get("eos_token"))
    )
    ends = []
    if bos is not None:
        ends.append([bos, *plain])
        if eos is not None:
            ends.append([bos, *plain, eos])
    return ends


def _steps(section: Any) -> tuple[tuple[str, Any], ...]:
    """A pre_tokenizer section as (type, the option that changes where text is cut)."""
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
