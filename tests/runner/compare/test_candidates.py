"""The short names of the files that are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.runner.compare.candidates import names


@pytest.mark.parametrize(
    ("files", "short"),
    [
        (("tales-F16.gguf", "tales.q4_k_m.gguf"), ["F16", "Q4_K_M"]),
        (
            (
                "tales-Q3_K_M.gguf",
                "tales-Q3_K_M-size.gguf",
                "tales-4.25bpw.gguf",
                "tales-6GiB.gguf",
            ),
            ["Q3_K_M", "Q3_K_M-size", "4.25bpw", "6GiB"],
        ),
        (("a-Q8_0.gguf", "b-Q8_0.gguf"), ["a-Q8_0", "b-Q8_0"]),
        (("one/a-Q8_0.gguf", "two/a-Q8_0.gguf"), ["one/a-Q8_0.gguf", "two/a-Q8_0.gguf"]),
        (("SmolLM2-135M.gguf", "tales-7B.gguf"), ["SmolLM2-135M", "tales-7B"]),
    ],
)
def test_a_file_is_called_by_its_type_or_size_if_that_is_unique(
    files: tuple[str, ...], short: list[str]
) -> None:
    assert names([Path(file) for file in files]) == short
