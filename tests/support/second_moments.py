"""Second moments of made-up inputs, for the weights of any source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.tensor_types.second_moments import MomentSums, write_second_moments
from franken_gguf.quantize.tensor_types.type_choice import is_quantizable

INPUTS = 64


def made_up(matrices: int, cols: int, seed: int) -> MomentSums:
    """Of inputs whose neighbouring columns resemble each other."""
    sums = MomentSums.zeros(matrices, cols)
    size = sums.sums.shape[-1]
    rng = np.random.default_rng(seed)
    for matrix, group in np.ndindex(*sums.sums.shape[:2]):
        noise = rng.standard_normal((INPUTS, size + 2), np.float32)
        inputs = noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]
        sums.sums[matrix, group] = inputs.T @ inputs
    sums.counts[:] = INPUTS
    return sums


def write_made_up(path: Path, source: Source, seed: int = 0) -> Path:
    """Moments for every matrix that llama-quantize would quantize."""
    weights = {
        tensor.name: made_up(max(len(tensor.pieces), 1), tensor.cols, seed + number)
        for number, tensor in enumerate(source.tensors)
        if is_quantizable(tensor.name, tensor.shape) and tensor.cols % 32 == 0
    }
    write_second_moments(path, weights, chunks=3, chunk_size=64, datasets=["made up"])
    return path
