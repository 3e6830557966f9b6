"""Files that are not mixtures, or are damaged, are refused by name before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo, read_header
from franken_gguf.quantize.gguf_file.values import string, u32
from franken_gguf.quantize.router_training.mixture import Mixture
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted

Change = Callable[[Header], Header]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Header:
    folder = tmp_path_factory.mktemp("mixture")
    make_checkpoint(folder / "model", **SMALL)
    return read_header(converted(folder / "model", folder / "out", ["F32"])[0])


def without(name: str) -> Change:
    def change(header: Header) -> Header:
        return replace(header, tensors=tuple(t for t in header.tensors if t.name != name))

    return change


def changed(name: str, do: Callable[[TensorInfo], TensorInfo]) -> Change:
    def change(header: Header) -> Header:
        tensors = tuple(do(one) if one.name == name else one for one in header.tensors)
        assert tensors != header.tensors
        return replace(header, tensors=tensors)

    return change


def keyed(**values: str | int) -> Change:
    def change(header: Header) -> Header:
        made = {
            f"llama.{key.replace('__', '.')}": string(one) if isinstance(one, str) else u32(one)
            for key, one in values.items()
        }
        return replace(header, metadata=header.metadata | made)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blk.1.ffn_gate_inp.weight"), "only some layers have a router"),
        (without("blk.0.attn_k.weight"), "tensor 'blk.0.attn_k.weight' is missing"),
        (without("blk.0.ffn_norm.weight"), "tensor 'blk.0.ffn_norm.weight' is missing"),
        (
            changed("blk.0.attn_k.weight", lambda t: replace(t, shape=(64, 64))),
            r"tensor 'blk.0.attn_k.weight' is \(64, 64\), not \(32, 64\)",
        ),
        (
            changed("blk.1.ffn_up_exps.weight", lambda t: replace(t, shape=(4, 95, 64))),
            r"tensor 'blk.1.ffn_up_exps.weight' is \(4, 95, 64\), not \(4, 96, 64\)",
        ),
        (
            changed("blk.1.attn_v.weight", lambda t: replace(t, name="blk.1.attn_v.scale")),
            "tensor 'blk.1.attn_v.weight' is missing",
        ),
        (
            changed("output.weight", lambda t: replace(t, name="blk.0.attn_sinks.weight")),
            "'blk.0.attn_sinks.weight' is not supported by router training",
        ),
        (keyed(expert_used_count=5), "its metadata are inconsistent"),
        (keyed(attention__head_count=0), "its metadata are inconsistent"),
        (keyed(rope__scaling__type="yarn"), "rope scaling 'yarn' cannot be trained"),
        (keyed(block_count=1 << 30), "only some layers have a router"),
    ],
)
def test_a_file_that_cannot_be_computed_is_refused(
    header: Header, change: Change, message: str
) -> None:
    with pytest.raises(FrankenError, match=message) as error:
        Mixture(change(header), 0)
    assert str(error.value).startswith(f"{header.path}: ")
    assert "\n" not in str(error.value)
