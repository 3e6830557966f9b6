"""The same text through the checkpoint's own tokenizer and through the GGUF: the ids must be equal.

A wrong tokenizer.ggml.pre, merge, score or added token gives a model that loads and talks worse,
with nothing to see but its answers. The reference are the libraries that the model was trained
with, sentencepiece and tokenizers, on the files of the checkpoint.

Four things are left out, because there the libraries themselves disagree and no conversion is
wrong. Spaces beside added tokens that swallow them (lstrip, rstrip): llama.cpp keeps them. Text in
decomposed Unicode where tokenizer.json asks for NFC: llama.cpp leaves that to the caller.
Combining marks where the pre-tokenizer's pattern has a rule for them (\\p{M}, as Mistral Nemo's
has): llama.cpp's patterns have none. And the space that SentencePiece puts in front of text: it
does so before any text and after every added token, and llama.cpp does as it does, but the
Metaspace step of a tokenizer.json puts none where a space stands already, and may put none after
added tokens.
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
"""Spaces, lines, digits, scripts, emoji, code: what cuts differ on."""

_PER_TOKEN = 48
"""So many added tokens are tried one by one; the rest all in one text."""

_MAX_WORDS = 8192
_WORDS_A_TEXT = 32
"""So many of the vocabulary's own words are tried, and how: each needs its merges to be right."""


@dataclass(frozen=True)
class _Reference:
    tokenize: Tokenize
    added: tuple[str, ...]
    """Added and control tokens as they stand in text."""
    words: tuple[str, ...]
    """Tokens that are words of ASCII letters, which every pre-tokenizer leaves whole."""
    strips: frozenset[str]
    """Those that swallow the spaces beside them."""
    metaspace: bool
    """Whether the space in front is Metaspace's: no comparison then of text that begins with one,
    or that follows an added token."""
    nfc: bool
    marks: bool
    """Whether combining marks can be compared."""


def reference_tokenizer(folder: Path) -> Tokenize:
    """Text to ids by the checkpoint's own files; added tokens are parsed, none are put around."""
    return _reference(folder).tokenize


def check_parity(folder: Path, tokenize: Tokenize) -> int:
    """Compare `tokenize` with the tokenizer of `folder`; returns how many texts were compared.

    `tokenize` is the written GGUF, loaded for its vocabulary alone: llama_tokenize with
    parse_special true and add_special false. Raises TokenizerError with the first difference.
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
    texts += [" ".join(words[n : n + _WORDS_A_TEXT]) for n in range(0, len(words), _WORDS_A_TEXT)]
    after = "" if reference.metaspace else "the end"
    for token in reference.added[:_PER_TOKEN]:
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
        metaspace=_says(document.get("pre_tokenizer"), "Metaspace"),
        nfc=_says(document.get("normalizer"), "NFC"),
        marks=not _says(document.get("pre_tokenizer"), r"\p{M}"),
    )


def _sentencepiece_reference(folder: Path, config: dict[str, Any]) -> _Reference:
    prefix = config.get("add_prefix_space")
    model = load_sentencepiece(folder, prefix if isinstance(prefix, bool) else None)
    symbols = {n: model.IdToPiece(n) for n in range(model.vocab_size()) if _is_symbol(model, n)}
    # The model has no embedding for ids beyond vocab_size, so they are no part of the GGUF.
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
    """Words among the tokens, in the order of their ids; a leading space is "Ġ" or "▁" there."""
    tokens = (token.lstrip("Ġ▁") for token in sorted(vocab, key=vocab.__getitem__))
    words = (word for word in tokens if len(word) > 1 and word.isascii() and word.isalpha())
    return tuple(dict.fromkeys(words))


def _is_symbol(model: Any, id_: int) -> bool:
    """Control pieces and the unknown piece: llama.cpp parses them, sentencepiece does not."""
    return bool(model.IsControl(id_) or model.IsUnknown(id_))


def _is_plain(token: str) -> bool:
    """Not a token of spaces: those are merged or swallowed by rules of their own."""
    return bool(token) and token == token.strip() and "▁" not in token


def _says(section: Any, word: str) -> bool:
    """Whether a text anywhere within a section of tokenizer.json holds `word`."""
    if isinstance(section, dict):
        return any(_says(value, word) for value in section.values())
    if isinstance(section, list):
        return any(_says(part, word) for part in section)
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
        f"{folder}: the GGUF cuts text in another way than the checkpoint's tokenizer: {shown} "
        f"gives {found[at : at + 4]} instead of {expected[at : at + 4]} from its token {at} on; "
        "llama.cpp does not support this tokenizer"
    )
