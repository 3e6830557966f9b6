"""Importance matrices: both file formats mean what llama-quantize takes them to mean."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter, LlamaFileType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import FrankenError, ImatrixError
from franken_gguf.quantize.gguf_file.values import string, u32
from franken_gguf.quantize.tensor_types.imatrix import Imatrix, read_imatrix

F32 = np.float32


def gguf_imatrix(
    path: Path, entries: dict[str, tuple[np.ndarray, np.ndarray]], dataset: str = "tales.txt"
) -> Path:
    """As llama-imatrix writes it: sums [matrices, cols] and counts [matrices, 1]."""
    writer = GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, (sums, counts) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", sums.astype(F32))
        writer.add_tensor(f"{name}.counts", counts.astype(F32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def legacy_imatrix(
    path: Path, entries: dict[str, tuple[int, np.ndarray]], tail: bytes = b""
) -> Path:
    parts = [struct.pack("<i", len(entries))]
    for name, (calls, values) in entries.items():
        raw = name.encode()
        parts += [struct.pack("<i", len(raw)), raw, struct.pack("<ii", calls, values.size)]
        parts.append(values.astype("<f4").tobytes())
    path.write_bytes(b"".join(parts) + tail)
    return path


def test_a_gguf_imatrix_holds_means_and_ones_for_experts_never_reached(tmp_path: Path) -> None:
    sums = np.array([[2, 4, 6], [0, 0, 0], [3, 1, 0]])
    path = gguf_imatrix(
        tmp_path / "i.gguf", {"blk.0.ffn_down_exps.weight": (sums, np.array([2, 0, 10]))}
    )
    imatrix = read_imatrix(path)
    expected = np.array([1, 2, 3, 1, 1, 1, 3 / 10, 1 / 10, 0], F32)
    assert imatrix.values["blk.0.ffn_down_exps.weight"].tolist() == expected.tolist()
    assert imatrix.unreached == {"blk.0.ffn_down_exps.weight": (1,)}


def test_a_legacy_imatrix_is_divided_by_its_calls(tmp_path: Path) -> None:
    tail = struct.pack("<ii", 12, 9) + b"tales.txt"
    entries = {"a": (4, np.array([4.0, 10.0])), "b": (0, np.array([4.0, 10.0]))}
    imatrix = read_imatrix(legacy_imatrix(tmp_path / "i.dat", entries, tail))
    assert imatrix.values["a"].tolist() == [1.0, 2.5]
    assert imatrix.values["b"].tolist() == [4.0, 10.0]
    assert (imatrix.chunks, imatrix.dataset) == (12, b"tales.txt")


def test_a_legacy_imatrix_may_end_after_its_entries(tmp_path: Path) -> None:
    imatrix = read_imatrix(legacy_imatrix(tmp_path / "i.dat", {"a": (1, np.ones(2))}))
    assert (imatrix.chunks, imatrix.dataset) == (0, None)
    assert list(imatrix.metadata()) == ["quantize.imatrix.file", "quantize.imatrix.entries_count"]


def test_the_keys_are_llama_quantizes_cut_to_its_field(tmp_path: Path) -> None:
    path = gguf_imatrix(tmp_path / "i.gguf", {"a": (np.ones((1, 2)), np.ones(1))}, "x" * 300)
    keys = read_imatrix(path).metadata()
    assert keys == {
        "quantize.imatrix.file": string(str(path)[:127]),
        "quantize.imatrix.dataset": string("x" * 127),
        "quantize.imatrix.entries_count": u32(1),
        "quantize.imatrix.chunks_count": u32(7),
    }


def imatrix_of(**values: np.ndarray) -> Imatrix:
    return Imatrix(Path("i.gguf"), values, {}, 1, None)


def test_values_are_dealt_to_experts() -> None:
    found = imatrix_of(a=np.arange(6, dtype=F32)).for_tensors({"a": (3, 5, 2), "b": (4, 4)})
    assert found["a"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert list(found) == ["a"]


def test_an_imatrix_of_another_model_is_refused() -> None:
    imatrix = imatrix_of(a=np.ones(6, F32))
    with pytest.raises(ImatrixError, match=r"i\.gguf: none of its 1 entries matches a tensor"):
        imatrix.for_tensors({"b": (4, 6)})
    with pytest.raises(ImatrixError, match="'a' has 6 values, but the tensor needs 8"):
        imatrix.for_tensors({"a": (4, 8)})


def test_the_token_embeddings_may_have_another_size_as_in_llama_quantize() -> None:
    imatrix = Imatrix(
        Path("i"), {"token_embd.weight": np.ones(3, F32), "a": np.ones(2, F32)}, {}, 1, None
    )
    assert list(imatrix.for_tensors({"token_embd.weight": (9, 2), "a": (9, 2)})) == ["a"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_cannot_be_are_refused_by_name(tmp_path: Path, value: float) -> None:
    bad = np.array([1.0, value])
    for path in (
        gguf_imatrix(tmp_path / "i.gguf", {"a": (bad[None], np.ones(1))}),
        legacy_imatrix(tmp_path / "i.dat", {"a": (1, bad)}),
    ):
        with pytest.raises(ImatrixError, match=r"'a' has negative, infinite or NaN values"):
            read_imatrix(path)


def test_every_cut_of_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    gguf = gguf_imatrix(tmp_path / "i.gguf", {"a": (np.ones((1, 2)), np.ones(1))}).read_bytes()
    legacy = legacy_imatrix(tmp_path / "i.dat", {"a": (1, np.ones(2))}).read_bytes()
    for whole, end in ((gguf, len(gguf) - 28), (legacy, len(legacy))):
        for length in range(end):
            path = tmp_path / "cut"
            path.write_bytes(whole[:length])
            with pytest.raises(FrankenError) as error:
                read_imatrix(path)
            assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    return [
        gguf_imatrix(folder / "i.gguf", {"a": (np.ones((2, 3)), np.ones(2))}).read_bytes(),
        legacy_imatrix(folder / "i.dat", {"a": (3, np.ones(4))}).read_bytes(),
    ]


# A number anywhere, and any bytes anywhere: warnings are errors in all tests.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(0, 1),
    st.integers(0, 2000),
    st.floats(width=32).map(lambda number: struct.pack("<f", number)) | st.binary(min_size=1),
)
def test_damage_anywhere_is_read_or_refused_without_a_warning(
    sound: list[bytes], tmp_path: Path, kind: int, back: int, damage: bytes
) -> None:
    whole = sound[kind]
    where = max(len(whole) - back, 0)
    path = tmp_path / "damaged"
    path.write_bytes(whole[:where] + damage + whole[where + len(damage) :])
    with suppress(FrankenError):
        read_imatrix(path)


@pytest.mark.parametrize(
    ("total", "count"), [(np.inf, np.inf), (np.inf, 1), (np.nan, 1), (1, np.nan), (1, -np.inf)]
)
def test_sums_and_counts_that_are_not_finite_are_refused(
    tmp_path: Path, total: float, count: float
) -> None:
    entries = {"a": (np.full((1, 2), total), np.array([count]))}
    with pytest.raises(ImatrixError, match=r"'a' has .*NaN (counts|values); run llama-imatrix"):
        read_imatrix(gguf_imatrix(tmp_path / "i.gguf", entries))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(data)
    try:
        read_imatrix(path)
    except FrankenError as error:
        assert "\n" not in str(error)


def test_a_model_is_not_an_imatrix(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ImatrixError, match="a GGUF file, but not an importance matrix"):
        read_imatrix(tmp_path / "m.gguf")
    with pytest.raises(ImatrixError, match="cannot be read"):
        read_imatrix(tmp_path / "none.gguf")
