"""tokenizer_source union where tokens are SentencePiece's: ChatML's beyond Mistral's, for one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.extended_vocab import EMBEDDINGS, LM_HEAD
from franken_gguf.runner.engine.vocabulary import load_vocabulary
from support.bpe_tokenizers import write_json
from support.checkpoints import weights, write_safetensors
from support.conversions import converted
from support.merges import dense_tensors, joined, make_dense, rows_of, run, table, tokens_of
from support.sentencepiece_tokenizers import write_sentencepiece


def make_sentencepiece(folder: Path, seed: int, more: int, *added: str) -> int:
    """A model with tokenizer.model, `more` rows than that has pieces, and tokens named in JSON."""
    make_dense(folder, seed)
    (folder / "tokenizer.json").unlink()
    pieces = write_sentencepiece(folder)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"vocab_size": pieces + more})
    tensors = dense_tensors(seed)
    for name in (EMBEDDINGS, LM_HEAD):
        tensors[name] = weights(name, (pieces + more, 64), seed, 0.05)
    write_safetensors(folder / "model.safetensors", tensors, "BF16")
    if added:
        ids = {text: pieces + n for n, text in enumerate(added)}
        write_json(folder / "added_tokens.json", ids)
    return pieces


def test_a_token_that_the_base_names_without_a_row_gets_an_experts(tmp_path: Path) -> None:
    """As in many a merge of Mistrals, whose tokenizer was copied from one with ChatML."""
    pieces = make_sentencepiece(tmp_path / "base", 0, 0, "<|im_end|>", "<|im_start|>")
    make_sentencepiece(tmp_path / "dolphin", 1, 2, "<|im_start|>", "<|im_end|>")
    source = joined(tmp_path, "dolphin", "base")
    theirs = table(1, EMBEDDINGS, pieces + 2)
    got = rows_of(source, EMBEDDINGS)
    assert (got[pieces:] == theirs[[pieces + 1, pieces]]).all()
    assert (got[:pieces] == table(0, EMBEDDINGS, pieces)).all()
    result = run("convert", source.recipe.path, "-q", "F16", "-o", tmp_path / "out.gguf")
    assert result.exit_code == 0, result.output
    tokens = tokens_of(read_header(tmp_path / "out.gguf"))
    assert tokens["<|im_end|>"][0] == pieces
    assert tokens["<|im_start|>"][0] == pieces + 1


@pytest.mark.parametrize("places", ["added_tokens.json", "added_tokens_decoder", "none"])
def test_a_sentencepiece_base_learns_tokens_of_a_gguf_expert(tmp_path: Path, places: str) -> None:
    before = ("<|note|>",) if places == "added_tokens.json" else ()
    pieces = make_sentencepiece(tmp_path / "base", 0, len(before), *before)
    if places == "added_tokens_decoder":
        path = tmp_path / "base" / "tokenizer_config.json"
        write_json(path, json.loads(path.read_text()) | {"added_tokens_decoder": {}})
    make_sentencepiece(tmp_path / "dolphin", 1, 2, "<|im_end|>", "<|im_start|>")
    (expert,) = converted(tmp_path / "dolphin", tmp_path / "gguf", ["Q8_0"])
    source = joined(tmp_path, "base", str(expert))
    assert source.added_tokens == ["<|im_end|>", "<|im_start|>"]
    near = rows_of(source, LM_HEAD)[pieces + len(before) :]
    plain = table(1, LM_HEAD, pieces + 2)[pieces:]
    assert 0 < np.abs(near - plain).max() < 0.01 * np.abs(plain).max()
    result = run("convert", source.recipe.path, "-q", "Q8_0", "-o", tmp_path / "out.gguf")
    assert result.exit_code == 0, result.output
    end, start = pieces + len(before), pieces + len(before) + 1
    with load_vocabulary(tmp_path / "out.gguf") as vocabulary:
        assert vocabulary.tokenize("<|im_start|><|im_end|>") == [start, end]
        # llama.cpp knows ChatML's end of a turn by its text: an answer stops there.
        assert [vocabulary.ends_answer(token) for token in (start, end)] == [False, True]


def test_a_base_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    pieces = make_sentencepiece(tmp_path / "base", 0, 0, "<|lost|>", "<|im_end|>")
    make_sentencepiece(tmp_path / "dolphin", 1, 1, "<|im_end|>")
    with pytest.raises(MergeError, match=rf"base: token id {pieces} \('<\|lost\|>'\) has no embed"):
        joined(tmp_path, "dolphin", "base")


@pytest.mark.parametrize("others", [(), ("singer",)])
def test_a_joined_row_that_is_not_finite_names_its_own_model(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    pieces = make_sentencepiece(tmp_path / "base", 0, 0)
    for seed, name in enumerate(("dolphin", *others), 1):
        make_sentencepiece(tmp_path / name, seed, 1, "<|im_end|>")
    tensors = dense_tensors(1)
    for name in (EMBEDDINGS, LM_HEAD):
        tensors[name] = weights(name, (pieces + 1, 64), 1, 0.05)
        tensors[name][pieces] = np.nan
    write_safetensors(tmp_path / "dolphin" / "model.safetensors", tensors, "BF16")
    source = joined(tmp_path, "base", *others, "dolphin")
    with pytest.raises(MergeError, match=rf"dolphin: tensor .* NaN or Inf in row {pieces};"):
        rows_of(source, EMBEDDINGS)
