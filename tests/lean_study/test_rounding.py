"""The weights of a cell are those of the file that it stands for."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.imatrix_file import (
    ImatrixSums,
    WeightSums,
    write_imatrix,
)
from lean_study.cells import IMATRIX, PLAIN, Cell
from lean_study.rounding import Weights
from support.checkpoints import make_checkpoint
from support.conversions import converted


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small mixture in F16, and its importance matrix beside it."""
    folder = tmp_path_factory.mktemp("mixture")
    checkpoint = make_checkpoint(folder / "tales", layers=1, dtype="F16")
    (path,) = converted(checkpoint, folder, ["F16"])
    rng = np.random.default_rng(1)
    sums = {}
    for tensor in read_header(path).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            matrices = prod(tensor.shape[:-2])
            values = rng.exponential(size=(matrices, tensor.shape[-1]))
            sums[tensor.name] = WeightSums(values, np.full(matrices, 512))
    write_imatrix(folder / "imatrix.gguf", ImatrixSums(sums, 1, 512, ("tales",)))
    return path


def bytes_of(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Each matrix' bytes, rounded to its type and stored in F16 or F32 as in the source."""
    found = {}
    for tensor in GGUFReader(path).tensors:
        blocks = np.ascontiguousarray(tensor.data.view(np.uint8).reshape(-1))
        codec = FORMATS[tensor.tensor_type.name]
        rows = codec.dequantize(blocks.reshape(-1, codec.row_bytes(int(tensor.shape[0]))))
        stored = "F32" if codec.name == "F32" else "F16"
        found[tensor.name] = FORMATS[stored].quantize(rows, None).reshape(-1)
    return found


@pytest.mark.parametrize(
    ("variant", "rung"), [(IMATRIX, "Q2_K"), (IMATRIX, "IQ2_XS"), (PLAIN, "Q4_K_M")]
)
def test_every_weight_is_what_the_converted_file_has(
    mixture: Path, variant: str, rung: str
) -> None:
    importances = mixture.with_name("imatrix.gguf")
    imatrix = None if variant == PLAIN else read_imatrix(importances)
    (file,) = converted(mixture, mixture.parent / variant, [rung], imatrix=imatrix)
    weights = Weights(mixture, importances, mixture.parent, kernels="numpy")
    types = weights.types(Cell("demo", variant, rung))
    ours = dict(weights.rounded(types, plain=variant == PLAIN))
    theirs, unrounded = bytes_of(file), dict(weights.unrounded(set(types)))
    assert len(ours) == 9
    for name, data in ours.items():
        assert data.tobytes() == theirs[name].tobytes(), name
        assert data.nbytes == unrounded[name].nbytes and (data != unrounded[name]).any()
    again = dict(weights.rounded(types, plain=variant == PLAIN))
    assert all((again[name] == data).all() for name, data in ours.items())


def test_a_group_has_only_its_own_tensors_and_the_router_too_if_asked(mixture: Path) -> None:
    importances = mixture.with_name("imatrix.gguf")
    weights = Weights(mixture, importances, mixture.parent, kernels="numpy")
    names = {
        group: sorted(weights.types(Cell("demo", f"only {group}", "Q2_K")))
        for group in ("router", "experts", "embeddings", "attention")
    }
    assert names["router"] == ["blk.0.ffn_gate_inp.weight"]
    assert names["experts"] == [f"blk.0.ffn_{part}_exps.weight" for part in ("down", "gate", "up")]
    assert names["embeddings"] == ["output.weight", "token_embd.weight"]
    assert [name.split(".")[2] for name in names["attention"]] == [
        *("attn_k", "attn_output", "attn_q", "attn_v")
    ]
    rounded = dict(weights.rounded(weights.types(Cell("demo", "only router", "Q2_K")), plain=False))
    (router,) = dict(weights.unrounded({"blk.0.ffn_gate_inp.weight"})).values()
    assert rounded["blk.0.ffn_gate_inp.weight"].nbytes == router.nbytes
