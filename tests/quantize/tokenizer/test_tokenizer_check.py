"""The parity check against llama.cpp itself: what is right passes, each way to err is caught."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.metadata import folder_metadata
from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import Metadata, string
from franken_gguf.quantize.tokenizer.tokenizer_check import TEXTS, check_parity, reference_tokenizer
from franken_gguf.quantize.tokenizer.tokenizer_keys import tokenizer_metadata
from franken_gguf.runner.engine.vocabulary import load_vocabulary
from support.bpe_tokenizers import (
    BYTES,
    LLAMA3,
    NO_REGEX,
    QWEN2,
    bpe_tokenizer,
    sequence,
    split,
    write_json,
)
from support.cases import CASES, SMALL, change
from support.checkpoints import make_checkpoint
from support.models import ROOT, smollm2
from support.sentencepiece_tokenizers import (
    sentencepiece_json,
    write_sentencepiece,
    write_sentencepiece_json,
)

TOKENS = "tokenizer.ggml.tokens"
TYPES = "tokenizer.ggml.token_type"
MERGES = "tokenizer.ggml.merges"
SCORES = "tokenizer.ggml.scores"


def compare(folder: Path, change: Callable[[Metadata], object] = lambda metadata: None) -> int:
    """check_parity of a folder with the GGUF made of it, its metadata changed on the way."""
    metadata = folder_metadata(folder, read_config(folder), {})
    change(metadata)
    path = folder / "vocabulary.gguf"
    path.write_bytes(encode_header(metadata, []))
    with load_vocabulary(path) as vocabulary:
        return check_parity(folder, vocabulary.tokenize)


@pytest.mark.parametrize("name", CASES)
def test_what_we_write_is_cut_as_the_checkpoint_cuts_it(tmp_path: Path, name: str) -> None:
    CASES[name](tmp_path / name)
    assert compare(tmp_path / name) > len(TEXTS)


def test_smollm2_rebuilt_from_its_gguf_is_known_by_its_hash_and_cut_the_same(
    tmp_path: Path,
) -> None:
    gguf = smollm2()
    rebuild = runpy.run_path(str(ROOT / "tools" / "smollm2_tokenizer.py"))["write_tokenizer"]
    rebuild(gguf, tmp_path)
    write_json(tmp_path / "config.json", {})
    ours = tokenizer_metadata(tmp_path, 49152)
    theirs = read_header(gguf).metadata
    assert ours == {key: theirs[key] for key in theirs if key.startswith("tokenizer.")}
    assert ours["tokenizer.ggml.pre"] == string("smollm")
    with load_vocabulary(gguf) as vocabulary:
        assert check_parity(tmp_path, vocabulary.tokenize) > 300


@pytest.mark.parametrize(
    ("steps", "ignore_merges"), [(BYTES, False), (QWEN2, False), (LLAMA3, True)]
)
def test_a_vocabulary_trained_anew_is_cut_as_its_steps_say(
    bpe: Path, steps: dict[str, Any], ignore_merges: bool
) -> None:
    document = bpe_tokenizer()
    document["pre_tokenizer"] = steps
    document["model"]["ignore_merges"] = ignore_merges
    write_json(bpe / "tokenizer.json", document)
    assert compare(bpe) > len(TEXTS)


@pytest.fixture
def bpe(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "bpe", **SMALL)


@pytest.fixture
def chatml(tmp_path: Path) -> Path:
    CASES["sentencepiece-chatml"](tmp_path / "chatml")
    return tmp_path / "chatml"


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


@pytest.mark.parametrize("steps", [{}, {"normalizer": None, "pre_tokenizer": METASPACE}])
def test_a_sentencepiece_model_saved_as_json_alone_is_cut_the_same(
    tmp_path: Path, steps: dict[str, Any]
) -> None:
    folder = make_checkpoint(tmp_path / "json", vocab=1200, **SMALL)
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    added = ("<|im_end|>", "<|im_start|>")
    write_json(folder / "tokenizer.json", sentencepiece_json(added) | steps)
    assert compare(folder) > len(TEXTS)


@pytest.mark.parametrize("prefix", [True, False])
def test_a_space_prefix_that_the_config_sets_is_followed(tmp_path: Path, prefix: bool) -> None:
    folder = make_checkpoint(tmp_path / "prefix", vocab=1200, **SMALL)
    write_sentencepiece(folder)
    change(folder, "tokenizer_config.json", add_prefix_space=prefix)
    assert compare(folder) > len(TEXTS)
    assert (reference_tokenizer(folder)("the") == reference_tokenizer(folder)(" the")) is False


def test_text_beside_tokens_that_swallow_spaces_is_left_out(bpe: Path) -> None:
    document = bpe_tokenizer()
    for token in document["added_tokens"]:
        token |= {"lstrip": True, "rstrip": True}
    write_json(bpe / "tokenizer.json", document)
    assert compare(bpe) > len(TEXTS)


def test_text_is_composed_first_where_the_tokenizer_asks_for_it(bpe: Path) -> None:
    change(bpe, "tokenizer.json", normalizer={"type": "NFC"})
    assert compare(bpe) > len(TEXTS)


@pytest.mark.parametrize("rule", [r"\p{L}", r"[\p{L}\p{M}]"])
def test_combining_marks_are_left_out_where_a_pattern_has_a_rule_for_them(
    bpe: Path, rule: str
) -> None:
    change(bpe, "tokenizer.json", pre_tokenizer=sequence(split(rule), NO_REGEX))
    reference = reference_tokenizer(bpe)

    def without_marks(text: str) -> list[int]:
        return [] if "\u094d" in text else reference(text)

    if "M" in rule:
        assert check_parity(bpe, without_marks) > len(TEXTS)
    else:
        with pytest.raises(TokenizerError):
            check_parity(bpe, without_marks)


def fails(folder: Path, change: Callable[[Metadata], object]) -> str:
    with pytest.raises(TokenizerError, match="tokenizes text differently") as caught:
        compare(folder, change)
    line = str(caught.value)
    assert line.startswith(str(folder)) and line.isprintable()
    return line


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "default"])
def test_a_wrong_pre_tokenizer_is_caught(bpe: Path, pre: str) -> None:
    def change(metadata: Metadata) -> None:
        metadata["tokenizer.ggml.pre"] = string(pre)

    fails(bpe, change)


def test_merges_in_another_order_are_caught(bpe: Path) -> None:
    fails(bpe, lambda metadata: metadata[MERGES].data.reverse())


def test_a_missing_merge_is_caught(bpe: Path) -> None:
    fails(bpe, lambda metadata: metadata[MERGES].data.remove("eter n"))


def test_ids_that_are_shifted_by_one_are_caught(bpe: Path) -> None:
    def change(metadata: Metadata) -> None:
        for key in (TOKENS, TYPES):
            metadata[key].data.insert(3, metadata[key].data.pop())

    fails(bpe, change)


def test_a_missing_added_token_is_caught(bpe: Path) -> None:
    def change(metadata: Metadata) -> None:
        metadata[TOKENS].data[2] = "[PAD2]"
        metadata[TYPES].data[2] = int(TokenType.UNUSED)

    assert "<|im_end|>" in fails(bpe, change)


def test_an_added_token_of_the_wrong_type_is_caught(chatml: Path) -> None:
    def change(metadata: Metadata) -> None:
        at = metadata[TOKENS].data.index("<|im_start|>")
        metadata[TYPES].data[at] = int(TokenType.NORMAL)

    assert "<|im_start|>" in fails(chatml, change)


def test_equal_scores_are_caught(chatml: Path) -> None:
    def change(metadata: Metadata) -> None:
        metadata[SCORES].data[:] = [-1000.0] * len(metadata[SCORES].data)

    fails(chatml, change)


def test_a_space_prefix_that_was_not_asked_for_is_caught(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "prefix", vocab=1200, **SMALL)
    write_sentencepiece(folder)
    change(folder, "tokenizer_config.json", add_prefix_space=False)
    fails(folder, lambda metadata: metadata.pop("tokenizer.ggml.add_space_prefix"))


def test_an_error_shows_the_text_escaped_and_where_it_differs(bpe: Path) -> None:
    reference = reference_tokenizer(bpe)

    def tokenize(text: str) -> list[int]:
        ids = reference(text)
        return [*ids[:-1], 7] if "\t" in text else ids

    with pytest.raises(TokenizerError) as caught:
        check_parity(bpe, tokenize)
    line = str(caught.value)
    assert "'\\ttab\\t\\ttabs\\n" in line and "gives [7] instead of [" in line


def test_both_files_together_are_cut_by_the_model(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "both", vocab=1200, **SMALL)
    write_sentencepiece(folder)
    write_sentencepiece_json(folder, ("<|im_end|>",))
    assert compare(folder) > len(TEXTS)


def test_a_token_without_an_embedding_row_is_not_a_difference(chatml: Path) -> None:
    assert "<beyond>" not in "".join(TEXTS)
    assert reference_tokenizer(chatml)("<beyond>") != [5000]
    assert compare(chatml) > len(TEXTS)
