"""Which types are slow on CPUs, by measured speeds."""

from __future__ import annotations

from franken_gguf.quantize.blocks.cpu_decode import DECODE_SPEED, SLOW_ON_CPU, slow_types
from franken_gguf.quantize.blocks.formats import FORMATS


def test_a_type_is_slow_if_the_next_larger_k_quant_is_clearly_faster() -> None:
    speeds = {"Q2_K": 1.0, "Q4_K": 1.0, "IQ2_XS": 0.5, "IQ3_S": 0.9, "Q8_0": 0.5}
    assert slow_types(speeds) == {"IQ2_XS"}


def test_every_type_that_a_size_can_get_has_been_measured() -> None:
    trained_for = ("Q1_0", "TQ1_0", "TQ2_0", "MXFP4")
    assert DECODE_SPEED.keys() == FORMATS.keys() - {"F32", "F16", "BF16", *trained_for}


def test_no_k_quant_is_slow_so_that_experts_always_have_a_type() -> None:
    assert not [name for name in SLOW_ON_CPU if name.endswith("_K")]
    assert SLOW_ON_CPU
