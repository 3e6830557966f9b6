"""Files of second moments: what is written is read, and nothing but second moments is accepted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import FrankenError, ImatrixError
from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import string
from franken_gguf.quantize.tensor_types.second_moments import (
    MomentSums,
    group_count,
    read_second_moments,
    write_second_moments,
)
from support.second_moments import INPUTS, made_up

DOWN = "blk.0.ffn_down_exps.weight"


def write(path: Path, **weights: MomentSums) -> Path:
    named = {f"blk.0.{name}.weight": sums for name, sums in weights.items()}
    write_second_moments(path, named, chunks=2, chunk_size=32, datasets=["t"])
    return path


@pytest.mark.parametrize(
    ("cols", "groups"),
    [
        (32, 1),
        (256, 1),
        (320, 1),
        (576, 2),
        (896, 4),
        (1536, 6),
        (4096, 16),
        (14336, 56),
        (33024, 129),
        (337, 337),
    ],
)
def test_columns_are_in_as_few_equal_groups_as_320_columns_allow(cols: int, groups: int) -> None:
    assert group_count(cols) == groups


def test_moments_are_read_as_they_were_written_but_for_the_rounding_of_f16(tmp_path: Path) -> None:
    sums = made_up(3, 576, seed=1)
    weight = read_second_moments(write(tmp_path / "m.gguf", ffn_down_exps=sums)).weights[DOWN]
    assert (weight.matrices, weight.groups, weight.cols, weight.size) == (3, 2, 576, 288)
    for matrix in range(3):
        for group, moments in enumerate(weight.read(matrix)):
            expected = sums.sums[matrix, group] / INPUTS
            scales = np.sqrt(expected.diagonal())
            assert moments.diagonal() == pytest.approx(expected.diagonal(), rel=1e-6)
            assert np.abs((moments - expected) / scales / scales[:, None]).max() < 2**-11
            assert (moments == moments.T).all()


def test_columns_and_experts_without_inputs_have_moments_of_zero(tmp_path: Path) -> None:
    sums = made_up(2, 64, seed=1)
    sums.sums[0, :, 5] = sums.sums[0, :, :, 5] = 0
    sums.sums[1], sums.counts[1] = 0, 0
    weight = read_second_moments(write(tmp_path / "m.gguf", ffn_down_exps=sums)).weights[DOWN]
    (first,), (second,) = weight.read(0), weight.read(1)
    assert not first[5].any() and not first[:, 5].any() and first[6].any()
    assert not second.any()
    assert len(weight.prepared(1).places) == 0


def test_an_importance_matrix_is_refused_with_the_command_that_makes_second_moments(
    tmp_path: Path,
) -> None:
    path = tmp_path / "i.gguf"
    path.write_bytes(encode_header({"general.type": string("imatrix")}, []))
    with pytest.raises(
        ImatrixError, match=r"i\.gguf: does not hold second moments; make them with"
    ):
        read_second_moments(path)


def test_moments_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    moments = read_second_moments(write(tmp_path / "m.gguf", ffn_down=made_up(1, 64, seed=0)))
    with pytest.raises(ImatrixError, match="none of its 1 weights is in this model"):
        moments.for_tensors({"blk.0.attn_q.weight": (64, 64)})
    with pytest.raises(ImatrixError, match="is for 1 x 64 columns, but the model has 4 x 64"):
        moments.for_tensors({"blk.0.ffn_down.weight": (4, 8, 64)})
    assert set(moments.for_tensors({"blk.0.ffn_down.weight": (8, 64)})) == set(moments.weights)


def test_a_weight_without_its_correlations_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", ffn_down=made_up(1, 64, seed=0))
    path.write_bytes(path.read_bytes().replace(b".correlations", b".correlationz"))
    with pytest.raises(ImatrixError, match=r"'blk\.0\.ffn_down\.weight' have the wrong shape"):
        read_second_moments(path)


@pytest.mark.parametrize(
    ("scale", "correlation"), [(np.nan, 0), (-1, 0), (np.inf, 0), (1e30, 0), (1, np.nan), (1, 2)]
)
def test_values_that_are_no_moments_are_refused_when_they_are_read(
    tmp_path: Path, scale: float, correlation: float
) -> None:
    path = write(tmp_path / "m.gguf", ffn_down=made_up(1, 64, seed=0))
    (scales, correlations) = read_header(path).tensors
    raw = bytearray(path.read_bytes())
    raw[scales.offset : scales.offset + 4] = np.float32(scale).tobytes()
    raw[correlations.offset : correlations.offset + 2] = np.float16(correlation).tobytes()
    path.write_bytes(raw)
    with pytest.raises(
        ImatrixError, match=r"second moments of 'blk\.0\.ffn_down\.weight' are damaged"
    ):
        read_second_moments(path).weights["blk.0.ffn_down.weight"].prepared(0)


def test_correlations_that_no_inputs_could_have_are_refused(tmp_path: Path) -> None:
    sums = made_up(1, 64, seed=0)
    sums.sums[...] = -1  # each column the opposite of every other
    np.einsum("mgii->mgi", sums.sums)[...] = 1
    path = write(tmp_path / "m.gguf", ffn_down=sums)
    with pytest.raises(ImatrixError, match="are damaged"):
        read_second_moments(path).weights["blk.0.ffn_down.weight"].prepared(0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_file_gives_moments_or_an_error_of_one_line(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = write(tmp_path / "m.gguf", ffn_down=made_up(1, 32, seed=0))
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with suppress(FrankenError):
        for weight in read_second_moments(path).weights.values():
            weight.prepared(weight.matrices - 1)
