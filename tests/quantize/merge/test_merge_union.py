"""tokenizer_source union: tokens that experts have beyond the base come with their embeddings."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.extended_vocab import EMBEDDINGS, LM_HEAD
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.merge.recipe_fields import ModelPath
from franken_gguf.quantize.merge.source_models import open_model
from franken_gguf.quantize.merge.token_union import new_tokens
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.bpe_tokenizers import bpe_tokenizer, write_json
from support.checkpoints import weights, write_safetensors
from support.conversions import converted, digest
from support.merges import (
    add_tokens,
    bf16,
    dense_tensors,
    joined,
    make_adapter,
    make_dense,
    rows_of,
    run,
    table,
    tokens_of,
    write_recipe,
)
from support.models import dense_checkpoint

BPE = len(bpe_tokenizer()["model"]["vocab"])
CONTROL, USER_DEFINED = 3, 4


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A base whose vocabulary is full, a poet who has ChatML's tokens beyond it, and a cook."""
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed, vocab=BPE + (2 if name == "poet" else 0))
    add_tokens(tmp_path / "poet", "<|verse|>", "<|end|>")
    return tmp_path


@pytest.mark.parametrize("name", [EMBEDDINGS, LM_HEAD])
def test_what_one_expert_has_comes_with_that_experts_rows(models: Path, name: str) -> None:
    source = joined(models, "cook", "poet")
    assert source.added_tokens == ["<|verse|>", "<|end|>"]
    got = rows_of(source, name)
    assert (got[:BPE] == table(0, name, BPE)).all()
    assert (got[BPE:] == table(1, name, BPE + 2)[BPE:]).all()
    pieces = [source.weights.read(name, n, min(n + 7, BPE + 2)) for n in range(0, BPE + 2, 7)]
    assert (np.concatenate(pieces) == source.weights.read(name, 0, BPE + 2)).all()


def test_what_several_have_comes_with_the_mean_of_their_rows(models: Path) -> None:
    make_dense(models / "singer", 3, vocab=BPE + 1)
    add_tokens(models / "singer", "<|end|>")
    got = rows_of(joined(models, "poet", "singer", "poet"), EMBEDDINGS)
    poet, singer = table(1, EMBEDDINGS, BPE + 2), table(3, EMBEDDINGS, BPE + 1)
    assert (got[BPE] == poet[BPE]).all()
    assert (got[BPE + 1] == bf16((poet[BPE + 1] + singer[BPE]) / 2)).all()
    assert (got[:BPE] == table(0, EMBEDDINGS, BPE)).all()


def test_new_tokens_take_the_rows_that_only_filled_the_base_up(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "poet")):
        make_dense(tmp_path / name, seed)
    add_tokens(tmp_path / "poet", "<|verse|>")
    got = rows_of(joined(tmp_path, "poet", "base"), EMBEDDINGS)
    wanted = table(0, EMBEDDINGS, 1024)
    wanted[BPE] = table(1, EMBEDDINGS, 1024)[BPE]
    assert (got == wanted).all()


def test_the_gguf_and_the_checkpoint_know_them_and_are_the_same(models: Path) -> None:
    add_tokens(models / "base", "<|seen|>", lstrip=False)
    make_dense(models / "wider", vocab=BPE + 1)
    (models / "wider" / "model.safetensors").replace(models / "base" / "model.safetensors")
    (models / "wider" / "config.json").replace(models / "base" / "config.json")
    recipe = joined(models, "poet", "cook").recipe.path
    result = run("convert", recipe, "-q", "Q8_0", "-o", models / "a.gguf")
    assert result.exit_code == 0, result.output
    notice = f"{recipe}: 2 tokens added to the base model's vocabulary (<|verse|>, <|end|>)"
    assert notice in " ".join(result.stderr.split())
    header = read_header(models / "a.gguf")
    tokens = tokens_of(header)
    assert [tokens[text] for text in ("<|seen|>", "<|verse|>", "<|end|>")] == [
        (BPE, CONTROL),
        (BPE + 1, CONTROL),
        (BPE + 2, CONTROL),
    ]
    assert header.integer("llama.vocab_size") == BPE + 3
    folder = models / "out" / "tales"
    folder.parent.mkdir()
    assert run("merge", recipe, folder).exit_code == 0
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == BPE + 3
    (again,) = converted(folder, models / "b", ["Q8_0"])
    assert digest(again) == digest(models / "a.gguf")


def test_how_a_token_is_found_in_text_comes_along(models: Path) -> None:
    make_dense(models / "singer", 3, vocab=BPE + 2)
    add_tokens(models / "singer", "[song]", rstrip=True, special=False)
    source = joined(models, "poet", "singer")
    tokens = json.loads((source.base_folder / "tokenizer.json").read_text())["added_tokens"]
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    assert tokens[-2:] == [
        {"id": BPE + 1, "content": "<|end|>", **plain, "special": True},
        {"id": BPE + 2, "content": "[song]", **plain, "rstrip": True, "special": False},
    ]


def test_experts_of_one_head_for_both_give_it_twice(models: Path) -> None:
    make_dense(models / "tied", 1, vocab=BPE + 1, tied=True)
    add_tokens(models / "tied", "<|verse|>")
    source = joined(models, "tied", "cook")
    theirs = table(1, EMBEDDINGS, BPE + 1)[BPE]
    assert (rows_of(source, EMBEDDINGS)[BPE] == theirs).all()
    assert (rows_of(source, LM_HEAD)[BPE] == theirs).all()


def test_an_adapter_on_lm_head_reaches_the_rows(models: Path) -> None:
    modules = {"lm_head": (BPE + 2, 64), "model.layers.0.mlp.up_proj": (96, 64)}
    make_adapter(models / "verse", modules)
    plain = rows_of(joined(models, "poet", "cook"), LM_HEAD)
    tuned = rows_of(joined(models, "poet+verse", "cook"), LM_HEAD)
    assert (plain[:BPE] == tuned[:BPE]).all()
    assert (plain[BPE:] != tuned[BPE:]).any()


def test_prompts_are_read_with_the_joined_tokens(models: Path) -> None:
    experts = [
        {"source_model": "poet", "positive_prompts": ["<|verse|>moon"]},
        {"source_model": "cook", "positive_prompts": ["salt"]},
    ]
    union = {"gate_mode": "hidden", "tokenizer_source": "union"}
    source = merge_source(write_recipe(models / "tales.yml", *experts, **union))
    assert source.router.prompts()[0][1] == BPE
    assert source.base_source().metadata["llama.vocab_size"].data == BPE + 2
    union = {"gate_mode": "cheap_embed", "tokenizer_source": "union"}
    rows = merge_source(write_recipe(models / "tales.yml", *experts, **union)).weights.rows
    assert rows is not None
    poet = table(1, EMBEDDINGS, BPE + 2)[BPE]
    assert rows[0, 0] @ poet > rows[0, 1] @ poet


def test_without_tokens_to_join_a_union_is_the_base(models: Path) -> None:
    files = []
    for choice in ("base", "union"):
        path = models / choice / "tales.yml"
        path.parent.mkdir(exist_ok=True)
        experts = [{"source_model": str(models / name)} for name in ("cook", "base")]
        base = str(models / "base")
        write_recipe(path, *experts, base_model=base, tokenizer_source=choice)
        files += converted(path, path.parent / "gguf", ["Q8_0"])
    assert digest(files[0]) == digest(files[1])


def test_the_temporary_files_go_when_the_source_does(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = models / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    source = joined(models, "poet", "cook")
    assert [path.name for path in temporary.glob("*/*")] == ["base+union"]
    del source
    gc.collect()
    assert list(temporary.iterdir()) == []


def another_vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    vocab = document["model"]["vocab"]
    ids = sorted(vocab.values())
    document["model"]["vocab"] = dict(zip(sorted(vocab, key=vocab.get), ids[::-1], strict=True))
    write_json(path, document)


def one_more_piece(folder: Path) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["Ġzebra"] = BPE
    document["added_tokens"] = document["added_tokens"][:3]
    write_json(path, document)


def test_an_expert_of_another_vocabulary_is_refused(models: Path) -> None:
    another_vocabulary(models / "cook")
    with pytest.raises(MergeError, match=r"cook: has another vocabulary .* leave this expert out"):
        joined(models, "poet", "cook")


def test_ordinary_tokens_are_not_joined(models: Path) -> None:
    one_more_piece(models / "poet")
    with pytest.raises(MergeError, match=r"poet: .*zebra' is not an added token\); a union takes"):
        joined(models, "poet", "cook")


def test_an_expert_of_other_widths_in_its_vocabulary_is_refused(models: Path) -> None:
    path = models / "poet" / "model.safetensors"
    tensors = dense_tensors(1)
    tensors[EMBEDDINGS] = weights(EMBEDDINGS, (BPE + 2, 32), 1, 0.05)
    write_safetensors(path, tensors, "BF16")
    with pytest.raises(
        MergeError, match=r"poet: model\.embed_tokens\.weight is \[\d+, 32\], lm_he"
    ):
        joined(models, "poet", "cook")


@settings(max_examples=25, deadline=None)
@given(
    added=st.lists(
        st.lists(st.sampled_from(["<|a|>", "<|b|>", "<|c|>", "<|d|>"]), unique=True, max_size=4),
        min_size=2,
        max_size=4,
    ),
    rows=st.integers(0, 2),
)
def test_every_token_that_has_a_row_somewhere_has_one_place_in_the_union(
    tmp_path_factory: pytest.TempPathFactory, added: list[list[str]], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("union")
    models = []
    for seed, texts in enumerate(added):
        path = make_dense(folder / str(seed), seed, vocab=BPE + (len(texts) if seed else rows))
        add_tokens(path, *(texts if seed else texts[:rows]))
        models.append(open_model(ModelPath(path)))
    base = added[0][:rows]
    tokens = new_tokens(models[0], models[1:])
    wanted = list(dict.fromkeys(text for texts in added[1:] for text in texts if text not in base))
    assert [token.text for token in tokens] == wanted
    assert [token.id for token in tokens] == [BPE + len(base) + n for n in range(len(wanted))]
    for token in tokens:
        assert [(int(model.folder.name), id_) for model, id_ in token.owners] == [
            (n, BPE + texts.index(token.text))
            for n, texts in enumerate(added[1:], 1)
            if token.text in texts
        ]


def test_in_llama_cpp_a_joined_token_means_what_it_means_to_its_expert(tmp_path: Path) -> None:
    """The expert's token has the row of a word, so that text with either gives the same logits."""
    base = dense_checkpoint()
    expert = tmp_path / "teller"
    expert.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (expert / name).write_bytes((base / name).read_bytes())
    config = json.loads((base / "config.json").read_text())
    size = config["vocab_size"]
    write_json(expert / "config.json", config | {"vocab_size": size + 1})
    document = json.loads((expert / "tokenizer.json").read_text())
    word = document["model"]["vocab"]["Ġlighthouse"]
    flags = document["added_tokens"][0]
    document["added_tokens"].append(flags | {"id": size, "content": "<|place|>"})
    write_json(expert / "tokenizer.json", document)
    tensors: dict[str, NDArray[Any]] = {}
    for shard in base.glob("*.safetensors"):
        tensors |= load_file(shard)
    for name in (EMBEDDINGS, LM_HEAD):
        rows = tensors[name]
        tensors[name] = np.concatenate([rows, rows[word : word + 1]])
    save_file(tensors, expert / "model.safetensors")
    del tensors, rows

    recipe = write_recipe(
        tmp_path / "tales.yml",
        {"source_model": str(expert)},
        {"source_model": str(base)},
        base_model=str(base),
        tokenizer_source="union",
    )
    out = tmp_path / "tales.gguf"
    result = run("convert", recipe, "-q", "Q8_0", "-o", out, "--threads", "1")
    assert result.exit_code == 0, result.output
    options = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=1)
    with Engine(read_header(out), options) as engine:
        said = []
        for place in (" lighthouse", "<|place|>"):
            engine.forget_from(0)
            ids = engine.vocabulary.tokenize(f"They lived in the{place}")
            said.append(engine.logits(ids, len(ids) - 1)[0].copy())
        assert ids[-1] == size
    assert (said[0] == said[1]).all()
    assert said[0][size] == said[0][word]
