"""F16 and BF16 files: the keys and the tensors that llama.cpp's converter wrote, recorded."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_choice import file_order
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from support.cases import CASES
from support.converter_keys import EXPECTED, as_expected

RUNS = [(name, outtype) for name in CASES for outtype in EXPECTED[name]]


@pytest.mark.parametrize(("name", "outtype"), RUNS)
def test_a_file_holds_what_the_converter_wrote(tmp_path: Path, name: str, outtype: str) -> None:
    folder, path = tmp_path / name, tmp_path / "out.gguf"
    CASES[name](folder)
    source = open_source(folder)
    convert(source, [plan_output(source, path, find_preset(outtype))])
    expected = EXPECTED[name][outtype]
    header = read_header(path)
    assert as_expected(header.metadata) == expected["metadata"]

    data = path.read_bytes()
    found: list[list[Any]] = [
        [
            t.name,
            t.type.name,
            list(t.shape),
            sha256(data[t.offset : t.offset + t.nbytes]).hexdigest(),
        ]
        for t in header.tensors
    ]
    assert [row[0] for row in found] == sorted((row[0] for row in found), key=file_order)
    if "tensors" in expected:
        assert found == sorted(expected["tensors"], key=lambda row: file_order(row[0]))


def test_tensors_were_recorded_for_both_types_and_both_kinds_of_model() -> None:
    recorded = [run for run in RUNS if "tensors" in EXPECTED[run[0]][run[1]]]
    assert {outtype for _, outtype in recorded} == {"f16", "bf16"}
    assert len(recorded) >= 3
