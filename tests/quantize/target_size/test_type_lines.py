"""Types by tensor as --tensor-type patterns: each tensor gets its own back."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.quantize.target_size.type_lines import type_lines
from franken_gguf.quantize.tensor_types.type_presets import Type

PARTS = ("attn_q.weight", "attn_k.weight", "ffn_up.weight", "ffn_up_exps.weight")
NAMES = st.one_of(
    st.sampled_from(["output.weight", "token_embd.weight"]),
    st.builds(lambda n, part: f"blk.{n}.{part}", st.integers(0, 120), st.sampled_from(PARTS)),
)
TYPES = st.dictionaries(NAMES, st.sampled_from([Type.Q2_K, Type.Q4_K, Type.Q8_0]), min_size=1)


@given(TYPES)
def test_the_first_pattern_that_is_found_in_a_name_has_its_type(types: dict[str, Type]) -> None:
    lines = type_lines(types)
    for name, kind in types.items():
        assert next(found for pattern, found in lines if re.search(pattern, name)) is kind


@given(TYPES)
def test_there_is_one_line_for_each_part_and_type(types: dict[str, Type]) -> None:
    kinds = {(re.sub(r"^blk\.\d+", "", name), kind) for name, kind in types.items()}
    assert len(type_lines(types)) == len(kinds)
