"""RoPE scaling: options do what the same keys of a file do, and are chosen beyond the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import Metadata, f32, string, u32
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.planning.rope import STORED_ROPE, Rope
from support.conversions import converted
from support.family_checkpoints import LOGIT_TOKENS, make_family_checkpoint

TOKENS = LOGIT_TOKENS * 3
TRAINED = 256
TWICE = Rope(rope_scaling="yarn", rope_scale=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rope")
    checkpoint = make_family_checkpoint(folder / "qwen2", "qwen2")
    return converted(checkpoint, folder / "out", ["F16"])[0]


def with_keys(model: Path, copy: Path, keys: Metadata) -> Path:
    """A copy of a model with other metadata, by keys without the architecture's name."""
    header = read_header(model)
    start = min(tensor.offset for tensor in header.tensors)
    table = [(one.name, one.shape, one.type, one.offset - start) for one in header.tensors]
    changed = {f"qwen2.{key}": value for key, value in keys.items()}
    head = encode_header(header.metadata | changed, table)
    copy.write_bytes(head + model.read_bytes()[start:])
    return copy


def logits(
    model: Path, rope: Rope = STORED_ROPE, n_ctx: int = TRAINED, notices: list[str] | None = None
) -> NDArray[np.float32]:
    options = LoadOptions(
        **vars(rope), n_ctx=n_ctx, n_threads=1, n_gpu_layers=0, n_outputs=len(TOKENS)
    )
    heard = [] if notices is None else notices
    with Engine(read_header(model), options, on_notice=heard.append) as engine:
        return engine.logits(TOKENS).copy()


@pytest.mark.parametrize(
    ("rope", "keys"),
    [
        (Rope(rope_freq_base=5e5), {"rope.freq_base": f32(5e5)}),
        (
            Rope(rope_scaling="linear", rope_scale=4),
            {"rope.scaling.type": string("linear"), "rope.scaling.factor": f32(4)},
        ),
        (
            Rope(rope_scaling="linear", rope_freq_scale=0.25),
            {"rope.scaling.type": string("linear"), "rope.scaling.factor": f32(4)},
        ),
        (
            TWICE,
            {"rope.scaling.type": string("yarn"), "rope.scaling.factor": f32(2)},
        ),
        (
            Rope(rope_scaling="yarn", rope_scale=2, yarn_orig_ctx=64, yarn_beta_fast=8),
            {
                "rope.scaling.type": string("yarn"),
                "rope.scaling.factor": f32(2),
                "rope.scaling.original_context_length": u32(64),
                "rope.scaling.yarn_beta_fast": f32(8),
            },
        ),
    ],
)
def test_options_give_the_logits_of_a_file_with_these_keys(
    model: Path, tmp_path: Path, rope: Rope, keys: Metadata
) -> None:
    stored = with_keys(model, tmp_path / "scaled.gguf", keys)
    assert (logits(model, rope) == logits(stored)).all()
    assert (logits(model, rope) != logits(model)).any()


def test_a_context_beyond_the_training_is_scaled_by_yarn_with_a_notice(
    model: Path, tmp_path: Path
) -> None:
    short = with_keys(model, tmp_path / "short.gguf", {"context_length": u32(TRAINED)})
    notices: list[str] = []
    found = logits(short, n_ctx=2 * TRAINED, notices=notices)
    assert (found == logits(short, TWICE, n_ctx=2 * TRAINED)).all()
    assert notices == [
        "the model was trained for 256 tokens, not for a context of 512: RoPE is scaled with "
        "--rope-scaling yarn --rope-scale 2; --rope-scaling none turns it off"
    ]
    unscaled = logits(short, Rope(rope_scaling="none"), n_ctx=2 * TRAINED)
    assert (unscaled == logits(short)).all()
    assert (unscaled != found).any()
