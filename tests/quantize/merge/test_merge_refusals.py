"""Mistakes in a recipe, each reported in one line before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import FrankenError, MergeError
from franken_gguf.quantize.merge.recipe_file import read_recipe
from franken_gguf.quantize.open_source import open_source
from franken_gguf.runner.cli import main
from support.conversions import converted
from support.merges import make_adapter, make_dense, write_recipe

POET, COOK = {"source_model": "poet"}, {"source_model": "cook"}
UP = {"model.layers.0.mlp.up_proj": (96, 64)}
UNLIKE_LORA: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "fast-pissa": {"init_lora_weights": "pissa_niter_16"},
    "olora": {"init_lora_weights": "olora"},
    "corda": {"init_lora_weights": "corda"},
    "loftq": {"init_lora_weights": "loftq"},
    "alora": {"alora_invocation_tokens": 7},
    "qalora": {"use_qalora": True},
    "bdlora": {"use_bdlora": {"nblocks": 2}},
    "of-tomorrow": {"kasa_config": {"beta": 1}},
    "no-flag": {"use_rslora": "true"},
    "a-number-for-a-flag": {"use_rslora": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(folder / name, seed)
    make_dense(folder / "wide", hidden=96)
    make_dense(folder / "deep", layers=3)
    make_dense(folder / "mistral-wide-ff", feed_forward=128, dense_class="MistralForCausalLM")
    make_dense(folder / "heads", heads=4, kv_heads=1)
    make_adapter(folder / "verse", UP)
    make_adapter(folder / "attention", {"model.layers.0.self_attn.q_proj": (64, 64)})
    make_adapter(folder / "other-shape", {"model.layers.0.mlp.up_proj": (96, 32)})
    make_adapter(folder / "other-names", {"transformer.h.0.mlp": (96, 64)})
    for name, config in UNLIKE_LORA.items():
        make_adapter(folder / name, UP, config=config)
    make_adapter(folder / "ia3", UP, config={"peft_type": "IA3"})
    make_adapter(folder / "regex", UP, config={"alpha_pattern": {"(a+)+b": 4}})
    make_adapter(folder / "no-alpha", UP, config={"lora_alpha": "much"})
    converted(folder / "poet", folder, ["Q8_0"])
    recipe = write_recipe(folder / "mixture.yml", POET, COOK)
    converted(recipe, folder, ["Q8_0"])
    return folder


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "one expert": ([POET], {}, r"experts: must be a list of 2 to 64 experts, not 1"),
    "65 experts": ([POET] * 65, {}, r"2 to 64 experts, not 65"),
    "an unknown field": ([POET, COOK], {"merge_method": "ties"}, r"unknown field 'merge_method'"),
    "an unknown field of an expert": (
        [POET, COOK | {"weight": 1}],
        {},
        r"experts\[1\]: unknown field 'weight'; the fields are source_model",
    ),
    "a misspelt field": (
        [POET, COOK],
        {"gate_mod": "hidden"},
        r"'gate_mod'; did you mean gate_mode\?",
    ),
    "an unknown gate mode": (
        [POET, COOK],
        {"gate_mode": "magic"},
        r"'magic' is unknown; choose hidden",
    ),
    "an unknown dtype": (
        [POET, COOK],
        {"dtype": "int8"},
        r"dtype: 'int8' is unknown; choose float32",
    ),
    "shared experts in a Mixtral": (
        [POET, COOK],
        {"shared_experts": [POET], "architecture": "mixtral"},
        r"Mixtral takes no shared_experts",
    ),
    "another architecture": ([POET, COOK], {"architecture": "gemma"}, r"'gemma' is not supported"),
    "an architecture of other models": (
        [POET, COOK],
        {"architecture": "qwen3"},
        r"Qwen3 MoE cannot be made of llama models",
    ),
    "an architecture without its shared expert": (
        [POET, COOK],
        {"architecture": "deepseek"},
        r"DeepSeek MoE needs one entry in shared_experts",
    ),
    "a gate for DeepSeek's shared expert": (
        [POET, COOK],
        {"architecture": "deep", "shared_experts": [POET | {"positive_prompts": ["x"]}]},
        r"DeepSeek MoE has no gate for its shared expert, so that one takes no prompts",
    ),
    "two shared experts": (
        [POET, COOK],
        {"shared_experts": [POET, COOK]},
        r"shared_experts: must be a list of at most one expert",
    ),
    "more at work than there are": ([POET, COOK], {"experts_per_token": 3}, r"per_token: 3"),
    "hidden without prompts": (
        [POET | {"positive_prompts": ["x"]}, COOK],
        {"gate_mode": "hidden"},
        r"experts\[1\]: has no positive_prompts, which gate_mode hidden needs",
    ),
    "the same prompts for all": (
        [POET | {"positive_prompts": ["x"]}, COOK | {"positive_prompts": ["x"]}],
        {"gate_mode": "cheap_embed"},
        r"all have the same prompts",
    ),
    "a prompt that YAML reads as a flag": (
        [POET | {"positive_prompts": [True]}, COOK],
        {},
        r"positive_prompts: each must be a text .* quotes",
    ),
    "noise without end": ([POET | {"noise_scale": float("inf")}, COOK], {}, r"noise_scale: inf is"),
    "no noise at all": ([POET | {"noise_scale": float("nan")}, COOK], {}, r"noise_scale: nan is"),
    "a model on the hub": (
        [POET, {"source_model": "org/dolphin-7b"}],
        {},
        r"experts\[1\]: source_model: 'org/dolphin-7b': no such folder or file.*--download",
    ),
    "an adapter that is not there": ([POET, {"source_model": "cook+lost"}], {}, r"'lost': no such"),
    "no source": ([POET, {}], {}, r"experts\[1\]: source_model: must be the path"),
    "a base in GGUF": ([POET, COOK], {"base_model": "poet-Q8_0.gguf"}, r"base_model must be a"),
    "other widths": (
        [POET, {"source_model": "wide"}],
        {},
        r"wide: hidden_size is 96, but 64 in .*base",
    ),
    "other depths": ([{"source_model": "deep"}, POET], {}, r"deep: num_hidden_layers is 3, .* 2"),
    "other feed-forward": (
        [POET, {"source_model": "mistral-wide-ff"}],
        {},
        r"intermediate_size is 128, .* 96",
    ),
    "other heads": ([POET, {"source_model": "heads"}], {}, r"num_attention_heads is 4, .* 2"),
    "a mixture as an expert": (
        [POET, {"source_model": "mixture-Q8_0.gguf"}],
        {},
        r"is a mixture of experts already",
    ),
    "a recipe as an expert": ([POET, {"source_model": "mixture.yml"}], {}, r"not a GGUF file"),
    "a folder without a model": ([POET, {"source_model": "verse"}], {}, r"config\.json: file not"),
    "a model as an adapter": ([POET, {"source_model": "cook+poet"}], {}, r"neither adapter_model"),
    "a file as an adapter": (
        [POET, {"source_model": "cook+poet-Q8_0.gguf"}],
        {},
        r"an adapter is a folder",
    ),
    "an adapter without feed-forward": (
        [POET, {"source_model": "cook+attention"}],
        {},
        r"attention: changes no feed-forward layer",
    ),
    "an adapter of other shapes": (
        [POET, {"source_model": "cook+other-shape"}],
        {},
        r"up_proj: lora_A \[3, 32\] and lora_B \[96, 3\] do not fit the model's \[96, 64\]",
    ),
    "an adapter of another model": (
        [POET, {"source_model": "cook+other-names"}],
        {},
        r"transformer\.h\.0\.mlp is not in the model",
    ),
    **{
        name: ([POET, {"source_model": f"cook+{name}"}], {}, rf"{key} {value!r} is not supported")
        for name, config in UNLIKE_LORA.items()
        for key, value in config.items()
    },
    "IA3": ([POET, {"source_model": "cook+ia3"}], {}, r"peft_type is 'IA3', not LORA"),
    "a regular expression": ([POET, {"source_model": "cook+regex"}], {}, r"only names of modules"),
    "no scale": ([POET, {"source_model": "cook+no-alpha"}], {}, r"lora_alpha is not a number"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_recipe_that_cannot_be_merged_is_refused_in_one_line(
    models: Path, tmp_path: Path, what: str
) -> None:
    experts, fields, reason = REFUSED[what]
    recipe = write_recipe(models / f"{what}.yml".replace(" ", "-"), *experts, **fields)
    with pytest.raises(FrankenError, match=reason) as error:
        open_source(recipe)
    assert "\n" not in str(error.value)
    result = CliRunner().invoke(main, ["convert", str(recipe), "-o", str(tmp_path / "x.gguf")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    "base_model: &a b\nexperts: [*a]": r"line 2: holds a YAML alias",
    "experts: !!python/object/apply:os.system [true]": r"line 1: holds a YAML tag",
    "a: " + "[" * 5000: r"nests lists or mappings",
    "a: " + "b" * (1 << 20): r"larger than 262144 bytes",
    "- base_model": r"is not a mapping; write base_model",
    "base_model: [": r"line 1: not valid YAML",
    "experts: [1, 2]": r"experts\[0\]: is not a mapping; write source_model",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_yaml_is_read_within_bounds(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(text)
    with pytest.raises(MergeError, match=HOSTILE[text]):
        read_recipe(recipe)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["poet", "hidden", "poet+verse", "+", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["source_model", "positive_prompts", "noise_scale"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = ("base_model", "experts", "gate_mode", "dtype", "experts_per_token", "architecture")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_a_recipe_holds_it_is_read_or_refused_in_one_line(
    models: Path, tmp_path: Path, document: dict[str, Any]
) -> None:
    recipe = models / f"{tmp_path.name}.yml"
    recipe.write_text(yaml.safe_dump(document))
    try:
        read_recipe(recipe)
    except FrankenError as error:
        assert "\n" not in str(error)
