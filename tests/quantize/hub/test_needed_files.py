"""Of all files of a repository only those of the model are needed, and none that can run code."""

from __future__ import annotations

import json

import pytest

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_name import HubName
from franken_gguf.quantize.hub.needed_files import (
    checkpoint_files,
    gguf_files,
    index_shards,
    is_complete,
)

NAME = HubName("org/name")
MISTRAL = [
    ".gitattributes",
    "README.md",
    "config.json",
    "consolidated.safetensors",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "modeling_mistral.py",
    "onnx/model.onnx",
    "params.json",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "additional_chat_templates/tools.jinja",
]
SHARDS = MISTRAL[5:7]


def test_a_checkpoint_is_its_shards_its_tokenizer_and_its_data() -> None:
    assert checkpoint_files(MISTRAL, SHARDS) == [
        "config.json",
        "generation_config.json",
        "README.md",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "additional_chat_templates/tools.jinja",
        "model.safetensors.index.json",
        *SHARDS,
    ]


def test_without_safetensors_there_is_no_checkpoint() -> None:
    assert checkpoint_files([name for name in MISTRAL if "safetensors" not in name]) == []


def test_an_adapter_is_its_weights_and_its_settings() -> None:
    names = ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "train.py"]
    assert checkpoint_files(names) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_shards_are_those_that_the_index_lists_and_none_elsewhere() -> None:
    listed = {"a": SHARDS[1], "b": SHARDS[0], "c": SHARDS[0], "d": "../x", "e": "/x", "f": "a/b"}
    assert index_shards(json.dumps({"weight_map": listed})) == SHARDS


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_lists_nothing(text: str) -> None:
    assert index_shards(text) == []


def test_the_only_gguf_model_need_not_be_named() -> None:
    names = ["README.md", "mmproj-F16.gguf", "tales-Q8_0.gguf", "tales.imatrix.gguf"]
    assert gguf_files(NAME, names) == ["tales-Q8_0.gguf"]


def test_several_gguf_models_are_listed_and_one_must_be_named() -> None:
    names = [f"tales-{number}.gguf" for number in range(10)]
    listed = ", ".join(names[:8])
    with pytest.raises(HubError) as error:
        gguf_files(NAME, names)
    assert str(error.value) == (
        "org/name: has 10 GGUF files; name one, as in hf:org/name/tales-0.gguf (available: "
        f"{listed} and 2 more)"
    )
    assert gguf_files(HubName("org/name", file="tales-3.gguf"), names) == ["tales-3.gguf"]
    assert gguf_files(HubName("org/name", file="lost.gguf"), names) == []


@pytest.mark.parametrize(
    ("quant", "files"),
    [
        ("Q4_K_M", ["tales.Q4_K_M.gguf"]),
        ("q4_k_m", ["tales.Q4_K_M.gguf"]),
        ("Q8_0", ["Q8_0/tales-Q8_0-00001-of-00002.gguf", "Q8_0/tales-Q8_0-00002-of-00002.gguf"]),
        ("K_M", []),
        ("Q4_0", []),
    ],
)
def test_a_quant_names_the_file_that_ends_in_it(quant: str, files: list[str]) -> None:
    parts = [f"Q8_0/tales-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    names = ["tales.Q4_K_M.gguf", "tales-IQ4_K_M.gguf", *parts]
    assert gguf_files(HubName("org/name", quant=quant), names) == files


def test_any_part_of_a_split_model_names_all_of_it() -> None:
    parts = [f"Q8_0/tales-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    names = [*parts, "tales-Q4_0.gguf"]
    for part in parts:
        assert gguf_files(HubName("org/name", file=part), names) == parts
    assert is_complete(parts)
    assert not is_complete(parts[:2])
    assert not is_complete([])
