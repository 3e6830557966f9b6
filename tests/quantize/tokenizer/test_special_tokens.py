"""Special tokens and chat templates: which of the many places that may hold one counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.bpe_tokenizers import BYTES, CHATML, bpe_tokenizer_config, write_json
from support.cases import change
from support.tokenizer_keys import VOCAB, error_of, keys


def test_ids_of_config_json_fill_in_what_the_tokenizer_leaves_open(spm: Path) -> None:
    change(spm, "config.json", bos_token_id=1, eos_token_id=[2, 3], pad_token_id=VOCAB)
    found = keys(spm)
    assert found["bos_token_id"] == 1
    # A list of ends has no single id, and the padding lies beyond the vocabulary.
    assert "eos_token_id" not in found and "padding_token_id" not in found


def test_the_post_processor_goes_before_the_config(bpe: Path) -> None:
    change(bpe, "tokenizer.json", post_processor=BYTES)
    change(bpe, "tokenizer_config.json", add_bos_token=True)
    assert keys(bpe)["add_bos_token"] is False


def template(*single: str) -> dict[str, Any]:
    steps = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if step == "A"
        else {"SpecialToken": {"id": step, "type_id": 0}}
        for step in single
    ]
    ids = {token: n for n, token in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
    specials = {
        step: {"id": step, "ids": [ids[step]], "tokens": [step]} for step in single if step != "A"
    }
    pair = [*steps, {"Sequence": {"id": "B", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": steps,
        "pair": pair,
        "special_tokens": specials,
    }


def test_another_token_at_the_end_becomes_eos_and_the_old_one_ends_a_turn(bpe: Path) -> None:
    change(bpe, "tokenizer.json", post_processor=template("A", "<|endoftext|>"))
    found = keys(bpe)
    assert (found["eos_token_id"], found["eot_token_id"], found["add_eos_token"]) == (0, 2, True)


def test_a_leading_token_without_a_name_becomes_bos(bpe: Path) -> None:
    change(bpe, "tokenizer.json", post_processor=template("<|endoftext|>", "A"))
    change(bpe, "tokenizer_config.json", bos_token=None)
    found = keys(bpe)
    assert (found["bos_token_id"], found["add_bos_token"]) == (0, True)


def test_roberta_puts_tokens_at_both_ends_and_between(bpe: Path) -> None:
    roberta = {
        "type": "RobertaProcessing",
        "sep": ["<|im_end|>", 2],
        "cls": ["<|im_start|>", 1],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    change(bpe, "tokenizer.json", post_processor=roberta)
    found = keys(bpe)
    assert found["add_bos_token"] is found["add_eos_token"] is found["add_sep_token"] is True
    assert found["seperator_token_id"] == 2


def test_two_families_are_known_by_the_size_of_their_vocabulary(bpe: Path) -> None:
    assert keys(bpe, 49152)["add_bos_token"] is False
    assert keys(bpe, 32016)["eot_token_id"] == 32010
    assert not {"add_bos_token", "eot_token_id"} & set(keys(bpe))


# Chat templates


def test_the_template_of_the_config_goes_before_every_file(bpe: Path) -> None:
    (bpe / "chat_template.jinja").write_text("jinja", encoding="utf-8")
    write_json(bpe / "chat_template.json", {"chat_template": "json"})
    assert keys(bpe)["chat_template"] == CHATML
    change(bpe, "tokenizer_config.json", chat_template=None)
    assert keys(bpe)["chat_template"] == "jinja"
    (bpe / "chat_template.jinja").unlink()
    assert keys(bpe)["chat_template"] == "json"


def test_a_template_of_null_does_not_hide_the_file(bpe: Path) -> None:
    write_json(bpe / "tokenizer_config.json", bpe_tokenizer_config() | {"chat_template": None})
    (bpe / "chat_template.jinja").write_text("jinja", encoding="utf-8")
    assert keys(bpe)["chat_template"] == "jinja"


def test_named_templates_get_names_that_fit_in_keys(bpe: Path) -> None:
    named = [{"name": "tool use!", "template": "t"}, {"name": "default", "template": "d"}]
    change(bpe, "tokenizer_config.json", chat_template=named)
    found = keys(bpe)
    assert found["chat_template"] == "d"
    assert found["chat_template.tool_use_"] == "t"
    assert found["chat_templates"] == ["tool_use_"]


@pytest.mark.parametrize("value", [7, {"a": 1}, ["x"], [{"name": 1, "template": "t"}], [{}]])
def test_a_template_of_another_type_is_named(bpe: Path, value: object) -> None:
    change(bpe, "tokenizer_config.json", chat_template=value)
    assert "chat_template" in error_of(bpe)
