"""Sampling settings: the user's, then the file's, then llama.cpp's."""

from __future__ import annotations

import math

import pytest

from franken_gguf.quantize.gguf_file.values import Value, f32, string, u32
from franken_gguf.runner.sampling.settings import Sampling, SamplingError, sampling_for

FILE = {"general.sampling.temp": f32(0.5), "general.sampling.top_k": u32(20)}


def test_the_users_setting_overrides_the_files_and_that_the_default() -> None:
    wanted = {"temperature": 0.0, "top_k": None, "top_p": None}
    assert sampling_for(FILE, wanted) == Sampling(temperature=0.0, top_k=20, top_p=0.95)


@pytest.mark.parametrize("stored", [f32(math.nan), f32(-1.0), f32(math.inf), string("hot")])
def test_a_setting_of_the_file_that_cannot_be_is_passed_over(stored: Value) -> None:
    assert sampling_for({"general.sampling.temp": stored}, {}) == Sampling()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", math.nan),
        ("repeat_penalty", 0.0),
        ("seed", 2**32),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(SamplingError, match=name):
        sampling_for({}, {name: value})
