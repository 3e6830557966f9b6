"""Experts that the router passed over, computed on the same states beside the running graph.

The model's output stays that of the experts that were chosen. An expert's input is the layer's; the
input of its down projection is silu(gate x) * (up x), computed here from the file's weights.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.common.files import read_at
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo
from franken_gguf.quantize.gguf_file.split_files import parts
from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.matmul_inputs import MatmulInput

from .sums import BatchSums, squares

F32 = NDArray[np.float32]
_EXPERTS = re.compile(r"(blk\.\d{1,4})\.ffn_(gate|up|down)_exps\.weight")
# Of the sum of squares; the graph rounds its inputs to 8 bits for quantized weights.
_MOST_DEVIATION = 0.05


class ExpertWeights:
    """The experts' gate and up matrices in a GGUF file, read when they are needed."""

    def __init__(self, header: Header) -> None:
        """Raises EngineError for a model without such experts, or with unknown types."""
        self.path = header.path
        self._tensors: dict[str, tuple[Path, TensorInfo]] = {
            tensor.name: (part.path, tensor) for part in parts(header) for tensor in part.tensors
        }
        names = [name for name in self._tensors if _EXPERTS.fullmatch(name)]
        if not names:
            raise EngineError(
                f"{header.path}: --all-experts needs a mixture whose experts have gate, up and "
                "down matrices; leave it out"
            )
        for name in names:
            layer = name.rpartition(".ffn_")[0]
            for projection in ("gate", "up"):
                of_layer = self._tensors.get(f"{layer}.ffn_{projection}_exps.weight")
                if of_layer is None or of_layer[1].type.name not in FORMATS:
                    raise EngineError(
                        f"{header.path}: {name!r}: --all-experts cannot read its gate and up "
                        "matrices; give an F16 or Q8_0 file, or leave it out"
                    )

    def matrix(self, layer: str, projection: str, expert: int) -> F32:
        """One matrix as float32 [ff, hidden]. Raises ReadError."""
        path, tensor = self._tensors[f"{layer}.ffn_{projection}_exps.weight"]
        _, rows, _ = tensor.shape
        nbytes = tensor.nbytes // tensor.shape[0]
        raw = read_at(path, tensor.offset + expert * nbytes, nbytes, tensor.name)
        return FORMATS[tensor.type.name].dequantize(raw.reshape(rows, -1))


class AllExpertSums(BatchSums):
    """The sums of one evaluation with every token given to every expert.

    With `checks` the experts that the graph computed are computed here too, and compared.
    """

    def __init__(self, weights: ExpertWeights, *, checks: bool) -> None:
        super().__init__()
        self._weights = weights
        self._checks = checks
        self._input: F32 | None = None

    def add(self, entry: MatmulInput) -> None:
        """See BatchSums.add. Raises EngineError for experts that compute something else."""
        name = _EXPERTS.fullmatch(entry.weight)
        if entry.experts is None or name is None:
            super().add(entry)
        elif name[2] == "down":
            assert self._input is not None
            self.weights[entry.weight] = self._down_sums(name[1], entry, self._input)
        else:
            self._input = entry.rows[:, 0].copy()
            tokens = len(self._input)
            sums = np.tile(squares(self._input), (entry.matrices, 1))
            self.weights[entry.weight] = WeightSums(sums, np.full(entry.matrices, tokens))

    def _down_sums(self, layer: str, entry: MatmulInput, states: F32) -> WeightSums:
        assert entry.experts is not None
        sums = np.zeros((entry.matrices, entry.rows.shape[2]))
        for expert in range(entry.matrices):
            chosen = entry.experts == expert
            routed = chosen.any(axis=1)
            seen = squares(entry.rows[chosen])
            if self._checks and routed.any():
                self._compare(layer, expert, seen, states[routed])
            sums[expert] = seen + self._activations(layer, expert, states[~routed])
        return WeightSums(sums, np.full(entry.matrices, len(states)))

    def _activations(self, layer: str, expert: int, states: F32) -> NDArray[np.float64]:
        if not len(states):
            return np.zeros(1)
        gate = states @ self._weights.matrix(layer, "gate", expert).T
        up = states @ self._weights.matrix(layer, "up", expert).T
        with np.errstate(over="ignore"):  # exp of a large negative gate: the quotient is 0
            return squares(gate / (1 + np.exp(-gate)) * up)

    def _compare(self, layer: str, expert: int, seen: NDArray[np.float64], states: F32) -> None:
        computed = self._activations(layer, expert, states)
        if abs(computed.sum() - seen.sum()) > _MOST_DEVIATION * seen.sum():
            raise EngineError(
                f"{self._weights.path}: {layer}: expert {expert} does not compute "
                "silu(gate) * up, which --all-experts needs; leave it out"
            )
