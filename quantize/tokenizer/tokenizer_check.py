"""Check that the GGUF tokenizes text exactly as the checkpoint's own tokenizer does.

With a wrong tokenizer.ggml.pre, merge, score or added token a model still loads, but answers worse.
The reference is the library that the model was trained with, sentencepiece or tokenizers, run on
the checkpoint's files.

Four cases are not compared, because llama.cpp differs from these libraries there and no conversion
could change that:
- Spaces beside added tokens that strip them (lstrip, rstrip): llama.cpp keeps them.
- Decomposed Unicode if tokenizer.json asks for NFC: llama.cpp leaves that to the caller.
- Combining marks if the pre-tokenizer's pattern has a rule for them (\\p{M}, as in Mistral Nemo):
  llama.cpp's patterns have none.
- The space before text: SentencePiece and llama.cpp add one before any text and after every added
  token, but the Metaspace step of a tokenizer.json adds none before an existing space, and possibly
  none after added tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import CheckpointError, TokenizerError
from franken_gguf.quantize.common.json_files import read_object

from .sentencepiece_vocabulary import added_tokens, load_sentencepiece
from .tokenizer_json import JsonTokenizer

Tokenize = Callable[[str], list[int]]

TEXTS = (
    "",
    " ",
    "Hello",
    " Hello",
    "Hello, world! How are you?",
    "  two  spaces,   three    four ",
    "\ttab\t\ttabs\n\n\nnewlines \n \n mixed\r\n",
    "line one\nline two\n\nline four",
    "1 12 123 1234 12345 3.14159 1,000,000 0x7F 2026-11-24 v2x3",
    "I've he'll we'd they're it's I'M DON'T 'tis O'Neill's",
    "naïve café Übergröße façade Straße — “quoted” \u2018single\u2019 …",
    "e\u0301a\u0308 n\u0303 combining \u1e9b\u0323",
    "日本語のテキスト 中文字符\uff0c标点。 한국어 문장입니다",
    "Привет, как дела? Αθήνα την άνοιξη שלום עולם مرحبا بالعالم",
    "नमस्ते दुनिया สวัสดีชาวโลก កាន់តែពិសេស",
    "🚀 🦙🦙 👩\u200d👩\u200d👧\u200d👦 🇪🇺 👍🏽 ❤\ufe0f ✅",
    "def f(x: int) -> str:\n    if x >= 10:\n        return f'{x!r}'\n    return \"\"\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 0.5f; } // sum\n",
    '<html><body class="x">&amp;</body></html> {"key": [1, 2, null]} $PATH ~/.bashrc',
    "https://example.org/path?query=1&other=two#fragment user@example.org",
    "!!! ??? ... ---- ==== #### **bold** __init__ `code` (a) [b] {c} <d>",
    "UPPER lower CamelCase snake_case kebab-case ALLCAPS123abc",
    "a\u00a0b\u3000c\u200bd\ufeffe",
    "If you could choose between eternal life and a mortal life that ends, which?",
    "x" * 70 + " " * 20 + "y",
)
"""Spaces, lines, digits, scripts, emoji, code: what pre-tokenizers split differently."""

_MAX_SINGLE_TOKENS = 48
"""Added tokens that are tried one by one; the rest are tried together in one text."""

_MAX_WORDS = 8192
"""Words of the vocabulary that are tried: each tests the merges that make it."""
_WORDS_PER_TEXT = 32


@dataclass(frozen=True)
class _Reference:
    tokenize: Tokenize
    added: tuple[str, ...]
    """Added and control tokens, as written in text."""
    words: tuple[str, ...]
    """Tokens that are words of ASCII letters, which no pre-tokenizer splits."""
    strips: frozenset[str]
    """Added tokens that strip the spaces beside them."""
    metaspace: bool
    """Whether Metaspace adds the first space: then text that begins with a space, or follows an
    added token, is not compared."""
    nfc: bool
    """Whether text is normalized to NFC first."""
    marks: bool
    """Whether combining marks can be compared."""


def reference_tokenizer(folder: Path) -> Tokenize:
    """The checkpoint's own tokenizer, text to ids; parses added tokens, adds no bos or eos."""
    return _reference(folder).tokenize


def check_parity(folder: Path, tokenize: Tokenize) -> int:
    """Compare `tokenize` with the tokenizer of `folder`; returns the number of texts compared.

    `tokenize` is that of the written GGUF: llama_tokenize with parse_special true and
    add_special false. Raises TokenizerError with the first difference.
    """
    reference = _reference(folder)
    texts = _texts(reference)
    for text in texts:
        expected, found = reference.tokenize(text), tokenize(text)
        if expected != found:
            raise TokenizerError(_difference(folder, text, expected, found))
    return len(texts)


def _texts(reference: _Reference) -> list[str]:
    """TEXTS, words of the vocabulary, and every added token, alone and within text."""
    texts = list(TEXTS)
    if reference.nfc:
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    if not reference.marks:
        texts = [text for text in texts if not any(map(_is_mark, text))]
    if reference.metaspace:
        texts = [text.lstrip(" ") for text in texts]
    words = reference.words[:: -(-len(reference.words) // _MAX_WORDS) or 1]
    texts += [
        " ".join(words[n : n + _WORDS_PER_TEXT]) for n in range(0, len(words), _WORDS_PER_TEXT)
    ]
    after = "" if reference.metaspace else "the end"
    for token in reference.added[:_MAX_SINGLE_TOKENS]:
        texts += [token, f"so{token}{after}", token * 2]
        if token not in reference.strips:
            texts.append(f"so {token}{after and ' ' + after}")
    texts.append(after.join(reference.added))
    return list(dict.fromkeys(texts))


def _reference(folder: Path) -> _Reference:
    config_path = folder / "tokenizer_config.json"
    config = read_object(config_path, TokenizerError) if config_path.is_file() else {}
    if (folder / "tokenizer.model").is_file():
        return _sentencepiece_reference(folder, config)
    document = read_object(folder / "tokenizer.json", TokenizerError)
    tokenizer = JsonTokenizer(folder, document, config)
    added = [token for token in tokenizer.added.values() if not token.single_word]
    return _Reference(
        tokenizer.ids,
        tuple(t.content for t in added if _is_plain(t.content)),
        _words({t: id_ for t, id_ in tokenizer.vocab.items() if id_ not in tokenizer.added}),
        frozenset(t.content for t in added if t.lstrip or t.rstrip),
        metaspace=_mentions(document.get("pre_tokenizer"), "Metaspace"),
        nfc=_mentions(document.get("normalizer"), "NFC"),
        marks=not _mentions(document.get("pre_tokenizer"), r"\p{M}"),
    )


def _sentencepiece_reference(folder: Path, config: dict[str, Any]) -> _Reference:
    prefix = config.get("add_prefix_space")
    model = load_sentencepiece(folder, prefix if isinstance(prefix, bool) else None)
    symbols = {n: model.IdToPiece(n) for n in range(model.vocab_size()) if _is_symbol(model, n)}
    # The model has no embedding for ids from vocab_size on, so the GGUF leaves them out.
    vocab_size = read_object(folder / "config.json", CheckpointError).get("vocab_size")
    for id_, token in added_tokens(folder, config, model.vocab_size()):
        if not isinstance(vocab_size, int) or id_ < vocab_size:
            symbols[id_] = token.text
    ids = {text: id_ for id_, text in symbols.items() if text}
    by_length = sorted(ids, key=len, reverse=True)
    cut = re.compile("(" + "|".join(map(re.escape, by_length)) + ")")

    def tokenize(text: str) -> list[int]:
        found: list[int] = []
        for n, part in enumerate(cut.split(text)):
            found += [ids[part]] if n % 2 else model.encode(part)
        return found

    plain = tuple(token for token in ids if _is_plain(token))
    words = _words({model.IdToPiece(n): n for n in range(model.vocab_size())})
    return _Reference(tokenize, plain, words, frozenset(), metaspace=False, nfc=False, marks=True)


def _words(vocab: dict[str, int]) -> tuple[str, ...]:
    """The words among the tokens, in the order of their ids, without the space "Ġ" or "▁"."""
    tokens = (token.lstrip("Ġ▁") for token in sorted(vocab, key=vocab.__getitem__))
    words = (word for word in tokens if len(word) > 1 and word.isascii() and word.isalpha())
    return tuple(dict.fromkeys(words))


def _is_symbol(model: Any, id_: int) -> bool:
    """True for control pieces and the unknown piece, which only llama.cpp parses in text."""
    return bool(model.IsControl(id_) or model.IsUnknown(id_))


def _is_plain(token: str) -> bool:
    """False for tokens with spaces at an end, which rules of their own merge or strip."""
    return bool(token) and token == token.strip() and "▁" not in token


def _mentions(section: Any, word: str) -> bool:
    """Whether any string in a section of tokenizer.json contains `word`."""
    if isinstance(section, dict):
        return any(_mentions(value, word) for value in section.values())
    if isinstance(section, list):
        return any(_mentions(part, word) for part in section)
    return isinstance(section, str) and word in section


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


def _difference(folder: Path, text: str, expected: list[int], found: list[int]) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b),
        min(len(expected), len(found)),
    )
    shown = ascii(text)
    if len(shown) > 90:
        shown = f"{shown[:87]}..."
    return (
        f"{folder}: the GGUF tokenizes text differently from the checkpoint: {shown} gives "
        f"{found[at : at + 4]} instead of {expected[at : at + 4]} from token {at} on; "
        "llama.cpp does not support this tokenizer"
    )
