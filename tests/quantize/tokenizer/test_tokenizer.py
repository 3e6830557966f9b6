"""Tokenizer files to GGUF keys: vocabularies of both kinds, and every broken file.

Special tokens and chat templates are in test_special_tokens.py. That all of it equals what
llama.cpp's converter writes is in test_metadata.py; that llama.cpp then cuts text as it should is
in test_parity.py.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.tokenizer.pretokenizer import CHECK_TEXT, PRE_BY_HASH
from franken_gguf.quantize.tokenizer.tokenizer_keys import tokenizer_metadata
from support.bpe_tokenizers import (
    BYTES,
    DIGITS,
    LLAMA3,
    LLAMA3_REGEX,
    NO_REGEX,
    QWEN2,
    bpe_tokenizer,
    bpe_tokenizer_config,
    sequence,
    split,
    write_json,
)
from support.cases import change
from support.sentencepiece_tokenizers import (
    sentencepiece_json,
    sentencepiece_model,
    sentencepiece_pieces,
    write_sentencepiece,
    write_sentencepiece_json,
)
from support.tokenizer_keys import CONFIG, VOCAB, error_of, keys

# Byte-level BPE


def test_merges_come_out_the_same_from_both_forms(bpe: Path) -> None:
    strings = keys(bpe)["merges"]
    document = bpe_tokenizer()
    document["model"]["merges"] = [merge.split(" ") for merge in document["model"]["merges"]]
    write_json(bpe / "tokenizer.json", document)
    assert keys(bpe)["merges"] == strings


def test_ids_without_a_token_are_unused_padding(bpe: Path) -> None:
    found, count = keys(bpe), len(bpe_tokenizer()["model"]["vocab"])
    assert len(found["tokens"]) == len(found["token_type"]) == VOCAB
    assert found["tokens"][count:] == [f"[PAD{n}]" for n in range(count, VOCAB)]
    assert set(found["token_type"][count:]) == {TokenType.UNUSED}
    assert found["token_type"][:4] == [TokenType.CONTROL] * 3 + [TokenType.NORMAL]


def test_a_padding_section_does_not_change_what_is_recognised(bpe: Path) -> None:
    before = keys(bpe)
    document = bpe_tokenizer()
    document["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 2,
        "pad_type_id": 0,
        "pad_token": "<|im_end|>",
    }
    document["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    write_json(bpe / "tokenizer.json", document)
    assert keys(bpe) == before


@pytest.mark.parametrize(
    ("section", "ignore_merges", "pre"),
    [
        (BYTES, False, "gpt-2"),
        (sequence(BYTES), False, "gpt-2"),
        (sequence(DIGITS, BYTES), False, "smollm"),
        (LLAMA3, True, "llama-bpe"),
        (QWEN2, False, "qwen2"),
    ],
)
def test_a_vocabulary_trained_anew_is_known_by_its_steps(
    bpe: Path, section: dict[str, Any], ignore_merges: bool, pre: str
) -> None:
    document = bpe_tokenizer()
    document["pre_tokenizer"] = section
    document["model"]["ignore_merges"] = ignore_merges
    write_json(bpe / "tokenizer.json", document)
    assert keys(bpe)["pre"] == pre


@pytest.mark.parametrize(
    ("section", "ignore_merges"),
    [
        (None, False),
        (NO_REGEX, False),
        (BYTES | {"add_prefix_space": True}, False),
        (BYTES, True),
        (LLAMA3, False),
        (sequence(split(r"\d{1,2}"), BYTES), False),
        (sequence(DIGITS | {"individual_digits": False}, BYTES), False),
        (sequence(split(LLAMA3_REGEX) | {"behavior": "Removed"}, NO_REGEX), True),
        (sequence(split(LLAMA3_REGEX) | {"invert": True}, NO_REGEX), True),
        ({"type": "Whitespace"}, False),
    ],
)
def test_a_pre_tokenizer_that_llama_cpp_lacks_is_an_error_that_names_it(
    bpe: Path, section: dict[str, Any] | None, ignore_merges: bool
) -> None:
    document = bpe_tokenizer()
    document["pre_tokenizer"] = section
    document["model"]["ignore_merges"] = ignore_merges
    write_json(bpe / "tokenizer.json", document)
    assert "no known equivalent of this pre-tokenizer" in error_of(bpe)


def test_the_table_of_hashes_holds_what_its_source_says() -> None:
    # Hashes of the tokens of three well-known models, as llama.cpp's converter lists them.
    assert len(PRE_BY_HASH) == 95
    assert all(len(digest) == 64 and int(digest, 16) for digest in PRE_BY_HASH)
    smollm = "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249"
    gpt2 = "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454"
    llama3 = "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5"
    assert [PRE_BY_HASH[h] for h in (smollm, gpt2, llama3)] == ["smollm", "gpt-2", "llama-bpe"]
    assert (
        sha256(CHECK_TEXT.encode()).hexdigest()
        == "a36179c1e2b1cfcfbfad1dc779addad2ffc778201e4cf0d538bddeafa2c526da"
    )


def test_an_added_token_beyond_vocab_size_is_refused(bpe: Path) -> None:
    count = len(bpe_tokenizer()["model"]["vocab"])
    assert "beyond vocab_size" in error_of(bpe, count - 1)
    assert len(keys(bpe, count)["tokens"]) == count


def test_tokens_that_only_the_config_adds_are_added(bpe: Path) -> None:
    count = len(bpe_tokenizer()["model"]["vocab"])
    added = {str(count): {"content": "<extra>", "special": True, "lstrip": False}}
    change(bpe, "tokenizer_config.json", added_tokens_decoder=added)
    found = keys(bpe)
    assert (found["tokens"][count], found["token_type"][count]) == ("<extra>", TokenType.CONTROL)


# SentencePiece


def test_pieces_keep_their_scores_and_types(spm: Path) -> None:
    found = keys(spm)
    pieces = sentencepiece_pieces()
    kinds = {1: TokenType.NORMAL, 2: TokenType.UNKNOWN, 3: TokenType.CONTROL, 6: TokenType.BYTE}
    assert found["tokens"][: len(pieces)] == [piece for piece, _, _ in pieces]
    assert found["scores"][: len(pieces)] == [score for _, score, _ in pieces]
    assert found["token_type"][: len(pieces)] == [kinds[kind] for _, _, kind in pieces]
    assert found["scores"][-1] == -10000.0
    assert (found["model"], found["pre"]) == ("llama", "default")


def test_tokens_that_stand_in_tokenizer_json_alone_are_no_padding(spm: Path) -> None:
    write_sentencepiece_json(spm, ("<|im_end|>",))
    change(spm, "tokenizer_config.json", eos_token="<|im_end|>")
    found, count = keys(spm), len(sentencepiece_pieces())
    assert found["tokens"][count] == "<|im_end|>"
    assert found["token_type"][count] == TokenType.CONTROL
    assert found["eos_token_id"] == count
    # The base vocabulary stays as tokenizer.model has it.
    assert found["scores"][1] == 0.0


def test_a_tokenizer_json_gives_the_tokens_and_the_order_of_merges_of_its_model(
    tmp_path: Path,
) -> None:
    write_json(tmp_path / "config.json", CONFIG)
    write_sentencepiece(tmp_path)
    model = keys(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    write_sentencepiece_json(tmp_path)
    alone = keys(tmp_path)
    for key in ("model", "pre", "tokens", "token_type"):
        assert alone[key] == model[key]
    merged = [n for n, (piece, _, kind) in enumerate(sentencepiece_pieces()) if kind == 1]
    merged = [n for n in merged if len(model["tokens"][n]) > 1]
    assert [alone["scores"][n] for n in merged] == [model["scores"][n] for n in merged]


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x00" * 64, sentencepiece_model()[:999]])
def test_a_broken_tokenizer_model_is_named(spm: Path, raw: bytes) -> None:
    (spm / "tokenizer.model").write_bytes(raw)
    assert "tokenizer.model: not a SentencePiece model" in error_of(spm)


@pytest.mark.parametrize("id_", [-1, "5", None, True, 1.0])
def test_an_added_token_without_an_id_is_named(spm: Path, id_: object) -> None:
    write_json(spm / "added_tokens.json", {"<\x1b[2J>": id_})
    assert "added_tokens.json" in error_of(spm)


@pytest.mark.parametrize("entries", [[], {"x": {}}, {"5": 5}, {"5": {"content": 5}}, {"²": {}}])
def test_an_added_tokens_decoder_of_another_shape_is_named(spm: Path, entries: object) -> None:
    change(spm, "tokenizer_config.json", added_tokens_decoder=entries or "x")
    assert "added_tokens_decoder" in error_of(spm)


# Files that are missing or broken


def test_a_folder_without_a_tokenizer_says_what_to_copy(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", CONFIG)
    assert "neither tokenizer.model nor tokenizer.json" in error_of(tmp_path)


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", None, ["BPE"]])
def test_another_model_than_bpe_is_named(bpe: Path, kind: object) -> None:
    document = bpe_tokenizer()
    document["model"]["type"] = kind
    write_json(bpe / "tokenizer.json", document)
    assert "not supported" in error_of(bpe)


def test_a_bpe_without_merges_is_refused(bpe: Path) -> None:
    document = bpe_tokenizer()
    document["model"]["merges"] = []
    write_json(bpe / "tokenizer.json", document)
    assert "no merges" in error_of(bpe)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("raw", [b"", b"[1]", b"\xff", b"{" * 3000, b'{"model": '])
def test_a_broken_json_file_is_named(bpe: Path, file: str, raw: bytes) -> None:
    (bpe / file).write_bytes(raw)
    assert file in error_of(bpe)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)
DOCUMENTS = {
    "bpe": {"tokenizer.json": bpe_tokenizer(), "tokenizer_config.json": bpe_tokenizer_config()},
    "json": {"tokenizer.json": sentencepiece_json(("<x>",)), "tokenizer_config.json": {}},
}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_json_in_any_place_gives_metadata_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_json(folder / "config.json", CONFIG)
    documents = json.loads(json.dumps(DOCUMENTS[data.draw(st.sampled_from(sorted(DOCUMENTS)))]))
    file = data.draw(st.sampled_from(sorted(documents)))
    place = documents[file]
    if file == "tokenizer.json" and data.draw(st.booleans()):
        place = documents[file]["model"]
    elif file == "tokenizer.json" and data.draw(st.booleans()):
        place = data.draw(st.sampled_from(documents[file]["added_tokens"]))
    names = sorted(place) or ["chat_template", "bos_token", "added_tokens_decoder"]
    place[data.draw(st.sampled_from(names))] = data.draw(JSON)
    for name, document in documents.items():
        write_json(folder / name, document)
    try:
        found = tokenizer_metadata(folder, VOCAB)
    except FrankenError as error:
        assert str(error).isprintable()
    else:
        assert len(found["tokenizer.ggml.tokens"].data) == VOCAB
