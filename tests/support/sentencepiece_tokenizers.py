"""Small SentencePiece tokenizers with nothing left to chance, as bytes and as tokenizer.json."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from support.bpe_tokenizers import word_merges, write_json


def sentencepiece_pieces() -> list[tuple[str, float, int]]:
    """(piece, score, type) in Mistral's order: specials, bytes, merged pieces, characters."""
    unknown, control, byte, normal = 2, 3, 6, 1
    pieces = [("<unk>", 0.0, unknown), ("<s>", 0.0, control), ("</s>", 0.0, control)]
    pieces += [(f"<0x{value:02X}>", 0.0, byte) for value in range(256)]
    merged = dict.fromkeys((a + b).replace("Ġ", "▁") for a, b in word_merges() if "Ċ" not in a + b)
    letters = dict.fromkeys("▁" + "".join(chr(c) for c in range(0x21, 0x7F)) + "éñüß—“”日本語🚀")
    ranked = [*merged, *letters]
    return pieces + [(piece, -float(rank), normal) for rank, piece in enumerate(ranked)]


def sentencepiece_model(add_dummy_prefix: bool = True) -> bytes:
    """A BPE tokenizer.model with byte fallback, encoded field by field.

    Field numbers are those of sentencepiece_model.proto: ModelProto has pieces = 1 (piece = 1,
    score = 2, type = 3), trainer_spec = 2 (model_type = 3, vocab_size = 4, byte_fallback = 35) and
    normalizer_spec = 3 (name = 1, add_dummy_prefix = 3, remove_extra_whitespaces = 4).
    """

    def number(field: int, value: int) -> bytes:
        return _varint(field << 3) + _varint(value)

    def block(field: int, value: bytes) -> bytes:
        return _varint(field << 3 | 2) + _varint(len(value)) + value

    pieces = sentencepiece_pieces()
    model = b"".join(
        block(1, block(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind))
        for piece, score, kind in pieces
    )
    bpe = 2
    model += block(2, number(3, bpe) + number(4, len(pieces)) + number(35, 1))
    return model + block(3, block(1, b"identity") + number(3, add_dummy_prefix) + number(4, 0))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_sentencepiece(folder: Path) -> int:
    """Write tokenizer.model and a tokenizer_config.json without templates; returns the pieces."""
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "tokenizer_class": "LlamaTokenizer",
        },
    )
    return len(sentencepiece_pieces())


def sentencepiece_json(added: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same model as transformers saves it in tokenizer.json, with more tokens."""
    pieces = sentencepiece_pieces()
    vocab = {piece: id_ for id_, (piece, _, _) in enumerate(pieces)}
    merges = []
    for piece, _, kind in pieces:
        if kind == 1:
            splits = [(piece[:n], piece[n:]) for n in range(1, len(piece))]
            known = [pair for pair in splits if pair[0] in vocab and pair[1] in vocab]
            merges += sorted(known, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    specials = {"<unk>": 0, "<s>": 1, "</s>": 2}
    specials |= {token: len(vocab) + n for n, token in enumerate(added)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    prefix = {"type": "Prepend", "prepend": "▁"}
    escape = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    unescape = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id_, "content": token, **flags, "special": True}
            for token, id_ in specials.items()
        ],
        "normalizer": {"type": "Sequence", "normalizers": [prefix, escape]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, {"SpecialToken": {"id": "<s>", "type_id": 1}}, other],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [unescape, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }


def write_sentencepiece_json(folder: Path, added: tuple[str, ...] = ()) -> None:
    """Write that tokenizer.json."""
    write_json(folder / "tokenizer.json", sentencepiece_json(added))
