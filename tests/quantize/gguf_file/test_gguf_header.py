"""GGUF headers: what is written is read back, and no bytes make the reader hang or wander."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import GGUFError
from franken_gguf.quantize.gguf_file import header
from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import Metadata, Value, array, boolean, f32, string, u32

F32 = GGMLQuantizationType.F32
TENSORS = [("a.weight", (4, 8), F32, 0), ("b.weight", (3,), F32, 128)]
METADATA: Metadata = {
    "general.architecture": string("llama"),
    "general.name": string("née π 🚀"),
    "llama.block_count": u32(2),
    "llama.rope.freq_base": f32(10000.0),
    "tokenizer.ggml.add_bos_token": boolean(True),
    "tokenizer.ggml.tokens": array(GGUFValueType.STRING, ["a", "", "\n"]),
    "tokenizer.ggml.token_type": array(GGUFValueType.INT32, [1, -2, 3]),
    "empty": array(GGUFValueType.FLOAT32, []),
    "no.utf8": Value(GGUFValueType.STRING, b"\xff\xfe"),
}


def small_file() -> bytes:
    return encode_header(METADATA, TENSORS) + bytes(160)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def test_what_is_encoded_is_read_back(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, small_file()))
    assert header.metadata == METADATA
    assert [(t.name, t.shape, t.type) for t in header.tensors] == [t[:3] for t in TENSORS]
    start = len(encode_header(METADATA, TENSORS))
    assert [(t.offset, t.nbytes) for t in header.tensors] == [(start, 128), (start + 128, 12)]


def many_texts(longest: int) -> Value:
    """An array of strings of about 1.3 MB: empty, short, no UTF-8, and one of `longest` bytes."""
    short = ["", "née π 🚀" * 9, "x" * 255, b"\xff" * 3] * 3000
    return Value(GGUFValueType.ARRAY, [*short, "y" * longest, *short[:9]], GGUFValueType.STRING)


@pytest.mark.parametrize("longest", [0, (1 << 20) - 8, 1 << 20, 3 << 20])
def test_an_array_of_strings_larger_than_what_is_read_at_once_is_read_back(
    tmp_path: Path, longest: int
) -> None:
    metadata = {"texts": many_texts(longest), "next": u32(7)}
    assert read_header(written(tmp_path, encode_header(metadata, []))).metadata == metadata


def test_a_large_array_of_strings_that_the_file_cuts_is_refused_where_it_is_cut(
    tmp_path: Path,
) -> None:
    data = encode_header({"texts": many_texts(0)}, [])
    for end in range(1_100_000, 1_100_500, 37):
        with pytest.raises(GGUFError, match=r"(the length of )?an item of 'texts' (is|needs) "):
            read_header(written(tmp_path, data[:end]))


def test_a_header_beyond_its_bound_is_refused_in_an_array_of_strings_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode_header({"texts": many_texts(0)}, [])
    monkeypatch.setattr(header, "MAX_HEADER_BYTES", 1_100_000)
    with pytest.raises(GGUFError, match="the header is larger than 1100000 bytes"):
        read_header(written(tmp_path, data))


def test_the_gguf_library_reads_the_encoded_header_the_same(tmp_path: Path) -> None:
    metadata = {key: METADATA[key] for key in METADATA if key not in ("empty", "no.utf8")}
    data = encode_header(metadata, TENSORS) + np.arange(40, dtype="<f4").tobytes()
    reader = GGUFReader(written(tmp_path, data))
    assert [field for field in reader.fields if not field.startswith("GGUF.")] == list(metadata)
    contents = {key: reader.fields[key].contents() for key in metadata}
    assert contents == {key: value.data for key, value in metadata.items()}
    assert reader.tensors[0].data.tolist() == np.arange(32.0).reshape(4, 8).tolist()


def test_every_cut_of_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    data = small_file()
    end = len(encode_header(METADATA, TENSORS)) + 128 + 12
    for length in range(end):
        with pytest.raises(GGUFError, match=r"model\.gguf: "):
            read_header(written(tmp_path, data[:length]))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, len(small_file()) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_are_read_or_refused_but_never_crash(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(small_file())
    for position, byte in changes:
        data[position] = byte
    path = written(tmp_path, bytes(data))
    try:
        header = read_header(path)
    except GGUFError as error:
        assert "\n" not in str(error)
    else:
        assert all(t.offset + t.nbytes <= len(data) for t in header.tensors)


def head(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, rest: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + rest


def tensor(
    name: bytes = b"a", dims: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0
) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text(name) + shape + struct.pack("<IQ", kind, offset)


BAD = {
    "nothing at all": (b"", r"not a GGUF file \(it is empty; download it again\)"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "it is a Git LFS pointer to the file; run 'git lfs pull', or download it",
    ),
    "another format": (b"PK\x03\x04" * 20, "not a GGUF file"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 1": (head(0, 0, version=1), "version 1 is not supported"),
    "a tensor for each atom": (
        head(2**63, 0, bytes(64)),
        "number of tensors is 9223372036854775808",
    ),
    "a key for each atom": (head(0, 2**63, bytes(64)), "number of metadata keys is"),
    "a string longer than the file": (
        head(0, 1, struct.pack("<Q", 2**40) + bytes(32)),
        "length of a metadata key is 1099511627776",
    ),
    "an array longer than the file": (
        head(0, 1, key(b"k", 9, struct.pack("<IQ", 4, 2**61))),
        "number of items of 'k'",
    ),
    "an array of empty strings, more than fit": (
        head(0, 1, key(b"k", 9, struct.pack("<IQ", 8, 10**9)) + bytes(64)),
        "number of items of 'k'",
    ),
    "arrays in arrays": (
        head(0, 1, key(b"k", 9, struct.pack("<IQ", 9, 1) + bytes(16))),
        "array of arrays",
    ),
    "an undefined value type": (head(0, 1, key(b"k", 99, bytes(8))), "type of 'k' is 99"),
    "a key twice": (
        head(0, 2, key(b"k", 4, bytes(4)) * 2),
        "'k' appears twice",
    ),
    "a key with an escape sequence": (
        head(0, 2, key(b"\x1b[2J", 4, bytes(4)) * 2),
        r"'\\x1b\[2J' appears twice",
    ),
    "an alignment of 3": (
        head(0, 1, key(b"general.alignment", 4, struct.pack("<I", 3))),
        "general.alignment 3",
    ),
    "five dimensions": (head(1, 0, tensor(dims=(1,) * 5) + bytes(64)), "5 dimensions"),
    "an empty dimension": (head(1, 0, tensor(dims=(8, 0)) + bytes(64)), "invalid shape"),
    "a shape beyond 2**62": (head(1, 0, tensor(dims=(2**40, 2**40)) + bytes(64)), "invalid shape"),
    "an unknown tensor type": (head(1, 0, tensor(kind=4000) + bytes(64)), "unknown type 4000"),
    "rows that are not a multiple of the block": (
        head(1, 0, tensor(dims=(33,), kind=8) + bytes(64)),
        "rows of 33 weights, not a multiple of Q8_0",
    ),
    "an odd offset": (head(1, 0, tensor(offset=1) + bytes(128)), "has offset 1, not"),
    "weights beyond the end": (head(1, 0, tensor(offset=64) + bytes(64)), "truncated or damaged"),
    "a name twice": (
        head(2, 0, tensor() + tensor(offset=32) + bytes(128)),
        "a tensor name appears twice",
    ),
    "overlapping tensors": (
        head(2, 0, tensor(b"a", (16,)) + tensor(b"b", offset=32) + bytes(128)),
        "'a' and 'b' overlap",
    ),
    "a tensor without a name": (head(1, 0, tensor(b"") + bytes(64)), "empty or not UTF-8"),
    "a tensor name of 64 bytes": (
        head(1, 0, tensor(b"x" * 64) + bytes(64)),
        "length of a tensor name",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_header_that_lies_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(GGUFError, match=message) as error:
        read_header(written(tmp_path, data))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"no\.gguf: no such file"):
        read_header(tmp_path / "no.gguf")
    with pytest.raises(GGUFError, match="cannot be read"):
        read_header(tmp_path)
