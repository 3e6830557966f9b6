"""Our importance matrices are llama-imatrix's; tests/expected/imatrix.json has its figures."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import LlamaFileType

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from support.imatrix_cases import CASES, OPTIONS, TEXT, sample, tensors_of, write_text
from support.merges import run
from support.models import ROOT
from support.oracle import llama_quantize

EXPECTED: dict[str, Any] = json.loads(
    (ROOT / "tests" / "expected" / "imatrix.json").read_text(encoding="utf-8")
)
MADE = ["small mixture", "small dense model"]
"""Those that are not quantized and have an output.weight."""
# SmolLM2 is quantized: another CPU's kernels round its inputs to 8 bits a little differently.
TOLERANCE = {"small mixture": 1e-4, "small dense model": 1e-4, "SmolLM2": 1e-2}


def make(model: Path, out: str, *more: str) -> None:
    result = run("imatrix", model, "--text", TEXT, *OPTIONS, "--hold-out", "0", "-o", out, *more)
    assert result.exit_code == 0, result.stderr


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path]:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    return request.param, CASES[request.param](tmp_path)


def test_header_and_counts_are_llama_imatrixs_and_the_sums_almost(case: tuple[str, Path]) -> None:
    name, model = case
    make(model, "made.gguf")
    made, expected = Path("made.gguf"), EXPECTED[name]
    content = made.read_bytes()
    start = min(tensor.offset for tensor in read_header(made).tensors)
    assert sha256(content[:start]).hexdigest() == expected["header"]
    assert len(content) == expected["bytes"]
    tensors = tensors_of(made)
    assert list(tensors) == list(expected["tensors"])
    for tensor, values in tensors.items():
        if tensor.endswith(".counts"):
            assert values.reshape(-1).tolist() == expected["tensors"][tensor], tensor
        else:
            total, *columns = expected["tensors"][tensor]
            got_total, *got_columns = sample(values)
            assert got_total == pytest.approx(total, rel=TOLERANCE[name]), tensor
            # A single column of a quantized model may lie on the edge of a rounding.
            if name != "SmolLM2":
                assert got_columns == pytest.approx(columns, rel=TOLERANCE[name]), tensor


def test_the_older_format_has_llama_imatrixs_size_and_end_and_the_same_means(
    case: tuple[str, Path],
) -> None:
    name, model = case
    make(model, "made.dat")
    make(model, "made.gguf")
    legacy = Path("made.dat").read_bytes()
    assert [len(legacy), legacy[-16:].hex()] == EXPECTED[name]["dat"]
    means, same = read_imatrix(Path("made.gguf")), read_imatrix(Path("made.dat"))
    assert (same.chunks, same.dataset) == (means.chunks, TEXT.encode())
    for tensor, values in means.values.items():
        assert same.values[tensor] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("case", MADE, indirect=True)
def test_llama_quantize_takes_it_and_writes_the_bytes_that_convert_writes(
    case: tuple[str, Path],
) -> None:
    _, model = case
    make(model, "made.gguf")
    imatrix = read_imatrix(Path("made.gguf"))
    stock = llama_quantize(
        model,
        Path("stock.gguf"),
        LlamaFileType.MOSTLY_Q4_0,
        imatrix={tensor: np.array(values) for tensor, values in imatrix.values.items()},
        keys={key: value.data for key, value in imatrix.metadata().items()},
    )
    ours = Path("ours.gguf")
    result = run("convert", model, "-q", "Q4_0", "--imatrix", "made.gguf", "-o", ours)
    assert result.exit_code == 0, result.stderr
    assert ours.read_bytes() == stock.read_bytes()


@pytest.mark.parametrize("case", MADE, indirect=True)
def test_the_output_is_included_if_asked_for(case: tuple[str, Path]) -> None:
    _, model = case
    make(model, "plain.gguf")
    make(model, "more.gguf", "--process-output")
    plain, more = tensors_of(Path("plain.gguf")), tensors_of(Path("more.gguf"))
    assert more.keys() - plain.keys() == {"output.weight.in_sum2", "output.weight.counts"}
    assert all((more[tensor] == values).all() for tensor, values in plain.items())
    assert more["output.weight.counts"].item() == 192
