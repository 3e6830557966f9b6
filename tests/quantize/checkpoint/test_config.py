"""config.json: both generations, every default, and every way in which it can be wrong."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.metadata import rope_freqs
from franken_gguf.quantize.checkpoint.model_config import RopeScaling
from franken_gguf.quantize.common.errors import CheckpointError
from support.checkpoints import config_json

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}


def fields(transformers: Any = 5, layout: Any = "per-expert", **changes: Any) -> dict[str, Any]:
    config = config_json(
        layout=layout,
        experts=4,
        tied=False,
        dtype="BF16",
        hidden=256,
        heads=4,
        kv_heads=2,
        layers=2,
        feed_forward=512,
        vocab=1024,
        transformers=transformers,
    )
    config |= changes
    return {key: value for key, value in config.items() if value != "absent"}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def error_of(folder: Path, config: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_config(write(folder, config))
    line = str(caught.value)
    assert line.startswith(str(folder / "config.json")) and "\n" not in line
    return line


def test_both_generations_of_config_json_mean_the_same(tmp_path: Path) -> None:
    old = read_config(write(tmp_path, fields(transformers=4)))
    new = read_config(write(tmp_path, fields(transformers=5)))
    assert old == new
    assert (new.layers, new.hidden_size, new.feed_forward, new.vocab_size) == (2, 256, 512, 1024)
    assert (new.heads, new.kv_heads, new.head_dim) == (4, 2, 64)
    assert (new.experts, new.experts_used, new.tied) == (4, 2, False)
    assert (new.context_length, new.rope_theta, new.rms_norm_eps) == (2048, 100000.0, 1e-05)
    assert new.rope_scaling is None


@pytest.mark.parametrize("head_dim", [None, "absent"])
@pytest.mark.parametrize(("layout", "states"), [("per-expert", False), ("dense", True)])
def test_a_head_dim_that_is_absent_is_computed(
    tmp_path: Path, head_dim: Any, layout: str, states: bool
) -> None:
    config = read_config(write(tmp_path, fields(layout=layout, head_dim=head_dim)))
    assert (config.head_dim, config.states_head_dim) == (64, states)


def test_a_head_dim_may_differ_from_the_hidden_size_over_the_heads(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, fields(head_dim=128)))
    assert (config.head_dim, config.states_head_dim) == (128, True)


@pytest.mark.parametrize(
    ("architecture", "defaults"),
    [
        ("LlamaForCausalLM", (2048, 10_000.0, 1e-6, 16, False, 0)),
        ("MistralForCausalLM", (131_072, 10_000.0, 1e-6, 8, False, 0)),
        ("MixtralForCausalLM", (131_072, 1_000_000.0, 1e-5, 8, False, 2)),
    ],
)
def test_what_is_left_out_takes_the_default_of_its_class(
    tmp_path: Path, architecture: str, defaults: tuple[object, ...]
) -> None:
    left_out = dict.fromkeys(
        (
            "max_position_embeddings",
            "rope_parameters",
            "rms_norm_eps",
            "num_key_value_heads",
            "tie_word_embeddings",
            "num_experts_per_tok",
        ),
        "absent",
    )
    changed = fields(architectures=[architecture], num_attention_heads=16, head_dim=16, **left_out)
    config = read_config(write(tmp_path, changed))
    assert defaults == (
        config.context_length,
        config.rope_theta,
        config.rms_norm_eps,
        config.kv_heads,
        config.tied,
        config.experts_used,
    )


def test_key_value_heads_of_null_are_as_many_as_query_heads(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, fields(num_key_value_heads=None))).kv_heads == 4


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_linear_scaling_is_read_from_either_name(tmp_path: Path, key: str, kind: str) -> None:
    rope = {"rope_parameters": "absent", "rope_theta": 5.0, key: {kind: "linear", "factor": 2}}
    config = read_config(write(tmp_path, fields(**rope)))
    assert (config.rope_theta, config.rope_scaling) == (5.0, RopeScaling("linear", 2.0))


def test_yarn_takes_its_original_context_from_the_model_when_it_does_not_say(
    tmp_path: Path,
) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "attn_factor": 0.5, "beta_fast": 16}
    config = read_config(write(tmp_path, fields(rope_parameters=yarn)))
    assert config.rope_theta == 1_000_000.0
    assert config.rope_scaling == RopeScaling(
        "yarn", 4.0, original_context_length=2048, attention_factor=0.5, beta_fast=16.0
    )


def test_llama3_scaling_gives_the_factors_that_the_converter_writes(tmp_path: Path) -> None:
    freqs = rope_freqs(read_config(write(tmp_path, fields(rope_parameters=LLAMA3))))
    assert freqs is not None
    assert (freqs.dtype, freqs.shape) == (np.dtype(np.float32), (32,))
    assert (freqs[0], freqs[-1]) == (1.0, 8.0)
    assert sha256(freqs.tobytes()).hexdigest() == (
        "52d7c3ec87a87f6e3fd1ac99cc9b7ad0625f7b8bf84f2e1695296a72c7b3132d"
    )


def test_other_models_have_no_rope_freqs(tmp_path: Path) -> None:
    assert rope_freqs(read_config(write(tmp_path, fields()))) is None
    linear = {"rope_type": "linear", "factor": 2.0}
    assert rope_freqs(read_config(write(tmp_path, fields(rope_parameters=linear)))) is None


@pytest.mark.parametrize(
    ("rope", "reason"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "rope scaling 'dynamic' is not supported"),
        (
            {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]},
            "rope scaling 'longrope' is not supported",
        ),
        (
            {"rope_type": "li\x1b[31mnear", "factor": 2.0},
            r"rope scaling 'li\x1b[31mnear' is not supported",
        ),
        ({"rope_type": ["linear"], "factor": 2.0}, "rope scaling ['linear'] is not supported"),
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "linear", "factor": -1}, "factor is -1"),
        ({"rope_type": "linear", "factor": True}, "factor is True, not a number"),
        ({"rope_type": "yarn"}, "factor is missing"),
        (
            {**LLAMA3, "low_freq_factor": 4.0},
            "low_freq_factor 4.0 is not below high_freq_factor 4.0",
        ),
        ({**LLAMA3, "factor": None}, "factor is missing"),
        ({"full_attention": {"rope_type": "default"}}, "rope parameters that differ between"),
        ({"rope_type": "default", "rope_theta": 0}, "rope_theta is 0"),
        (
            {"rope_type": "default", "partial_rotary_factor": 0.5},
            "partial_rotary_factor 0.5 is not supported",
        ),
        ("linear", "rope_parameters is 'linear', not an object"),
        ([1], "rope_parameters is [1], not an object"),
    ],
)
def test_a_rope_scaling_that_llama_cpp_does_not_know_is_refused(
    tmp_path: Path, rope: Any, reason: str
) -> None:
    line = error_of(tmp_path, fields(rope_parameters=rope))
    assert reason in line
    assert line.isprintable()


SIZES = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_local_experts",
]


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize(
    "value", ["absent", None, 0, -1, True, 2.0, "256", [256], 1 << 40, 10**400]
)
def test_a_size_that_is_missing_or_absurd_is_named(tmp_path: Path, key: str, value: Any) -> None:
    assert key in error_of(tmp_path, fields(**{key: value}))


@pytest.mark.parametrize("value", [0, -1e-5, True, "1e-5", float("nan"), float("inf"), 10**400])
def test_an_epsilon_that_is_not_a_positive_number_is_named(tmp_path: Path, value: Any) -> None:
    assert "rms_norm_eps" in error_of(tmp_path, fields(rms_norm_eps=value))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_key_value_heads": 3}, "key-value heads"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok"),
        ({"head_dim": 63}, "head_dim"),
        ({"head_dim": None, "hidden_size": 258}, "hidden_size"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"architectures": ["Phi3ForCausalLM"]}, "Phi3ForCausalLM"),
        ({"architectures": []}, "architectures"),
        ({"architectures": "MixtralForCausalLM"}, "architectures"),
        ({"architectures": [7]}, "architectures"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    assert word in error_of(tmp_path, fields(**changes))


def test_a_folder_without_config_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: file not found"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"vocab_size": ' + b"9" * 9_999],
)
def test_a_file_that_is_not_a_json_object_is_reported_in_one_line(
    tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(fields())), value=JSON_VALUES)
def test_any_json_in_any_field_gives_a_config_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    folder = write(tmp_path_factory.mktemp("any"), fields(**{key: value}))
    try:
        config = read_config(folder)
    except CheckpointError as error:
        assert str(error).isprintable()
    else:
        assert config.heads % config.kv_heads == 0
