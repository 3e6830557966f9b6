"""Made-up measurements of a source: every bit of a type quarters its cost, a grid halves it."""

from __future__ import annotations

import zlib

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.target_size.measurements import Measurements
from franken_gguf.quantize.target_size.type_menus import can_choose, possible_types
from franken_gguf.quantize.tensor_types.type_presets import Type


def by_bits(source: Source, *, weighted: bool, spread: float = 0) -> Measurements:
    """What `measurements` would return, with an importance matrix if `weighted`.

    `spread`: of the five groups that the tensors are in, each matters 2 ** spread times as much as
    the one before.
    """
    measured = Measurements()
    for tensor in filter(can_choose, source.tensors):
        group = zlib.crc32(f"0{tensor.name}".encode()) % 5 - 2
        kinds = possible_types(tensor, weighted)
        measured.errors[tensor.name] = {kind.name: _error(kind) for kind in kinds}
        measured.divergences[tensor.name] = 0.01 * 2.0 ** (spread * group)
    return measured


def _error(kind: Type) -> float:
    block_len, nbytes = GGML_QUANT_SIZES[kind]
    is_grid = kind.name.startswith(("IQ1_", "IQ2_", "IQ3_"))
    return float(4.0 ** (-8 * nbytes / block_len)) * (0.5 if is_grid else 1)
