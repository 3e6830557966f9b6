"""A mixture's weights as each cell has them: its types, and the rounded blocks, kept on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8, Quantize, Step
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.jobs import jobs
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.target_size.target import Fitter, Target
from franken_gguf.quantize.target_size.type_menus import can_choose
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import Type, find_preset
from franken_gguf.runner.kernels.kernel_choice import choose_kernels
from franken_gguf.runner.sensitivity.measured_source import measurements
from franken_gguf.runner.sensitivity.probe_texts import BUILT_IN
from lean_study.cells import FILE, GROUPS, IMATRIX, PLAIN, SIZE, Cell

_JOB_WEIGHTS = 1 << 20
_MANY = 1 << 28
"""Weights to round, about: enough for ggml to be worth its start where it is faster."""


class Weights:
    """A mixture in F16, with its importance matrix; `work` keeps rounded blocks.

    `kernels` is what rounds, as of `convert --kernels`: all write the same bytes.
    """

    def __init__(self, model: Path, imatrix: Path, work: Path, *, kernels: str = "auto") -> None:
        self.path = model
        self.source: Source = open_source(model)
        self._imatrix = read_imatrix(imatrix)
        shapes = {t.name: t.shape for t in self.source.tensors if len(t.shape) > 1}
        self._importances: Mapping[str, F32] = self._imatrix.for_tensors(shapes)
        self._blocks = work / "blocks" / model.stem
        self._fitter: Fitter | None = None
        self._index = {tensor.name: n for n, tensor in enumerate(self.source.tensors)}
        self._mode, self._kernels = kernels, dict[Step, Quantize]()

    def output(self, cell: Cell) -> Output:
        """The file that the cell stands for; for a group, that of the whole preset."""
        preset = find_preset(cell.rung)
        imatrix = None if cell.variant == PLAIN else self._imatrix
        plan = plan_output(self.source, Path(cell.rung), preset, None, imatrix)
        if cell.variant != SIZE:
            return plan
        fitted = self._fitted().fit(Target(cell.rung, cell.rung, plan.nbytes))
        return plan_output(
            self.source, Path(cell.rung), fitted.preset, fitted.overrides, self._imatrix
        )

    def _fitted(self) -> Fitter:
        if self._fitter is None:
            known = measurements(self.source, self.path, self._importances, BUILT_IN, threads=1)
            self._fitter = Fitter(self.source, self._imatrix, Overrides(), known)
        return self._fitter

    def types(self, cell: Cell) -> dict[str, Type]:
        """The types of the tensors that differ from the unquantized model."""
        types = {
            tensor.source.name: tensor.choice.type
            for tensor in self.output(cell).tensors
            if tensor.choice.type is not tensor.source.stored
        }
        if cell.variant in (IMATRIX, PLAIN, SIZE, FILE):
            return types
        group = re.compile(GROUPS[cell.variant])
        main = find_preset(cell.rung).default
        return {
            tensor.name: types.get(tensor.name, main)
            for tensor in self.source.tensors
            if group.search(tensor.name) and (can_choose(tensor) or "gate_inp" in tensor.name)
        }

    def unrounded(self, names: set[str]) -> Iterator[tuple[str, U8]]:
        """The bytes of tensors as the model's file has them."""
        for name in sorted(names):
            rows = [stored for _, stored in self._rows(name)]
            yield name, np.concatenate(rows).reshape(-1).view(np.uint8)

    def rounded(self, types: Mapping[str, Type], plain: bool) -> Iterator[tuple[str, U8]]:
        """The bytes of tensors rounded to these types, in the type that the model's file has."""
        for name, kind in types.items():
            stored = FORMATS[self.source.tensors[self._index[name]].stored.name]
            rows = FORMATS[kind.name].dequantize(self._rounded(name, kind, plain))
            yield name, stored.quantize(rows, None).reshape(-1)

    def _rounded(self, name: str, kind: Type, plain: bool) -> U8:
        tensor = self.source.tensors[self._index[name]]
        importance = None if plain else self._importances.get(name)
        file = self._blocks / f"{name}-{kind.name}{'-plain' if plain else ''}.bin"
        if not file.exists():
            quantize = self._quantizer(Step(kind.name, importance is not None))
            stored = FORMATS[tensor.stored.name]
            parts = [
                quantize(
                    stored.dequantize(rows), None if importance is None else importance[matrix]
                )
                for matrix, rows in self._rows(name)
            ]
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            np.concatenate(parts).tofile(part)
            part.rename(file)
        return np.fromfile(file, np.uint8).reshape(tensor.rows, -1)

    def _quantizer(self, step: Step) -> Quantize:
        if step not in self._kernels:
            found = choose_kernels(self._mode, {step: _MANY}, 1)
            self._kernels[step] = found.get(step, FORMATS[step.format].quantize)
        return self._kernels[step]

    def _rows(self, name: str) -> Iterator[tuple[int, U8]]:
        """A tensor's rows as stored, in parts: the matrix' number, uint8 [rows, row bytes]."""
        index = self._index[name]
        tensor = self.source.tensors[index]
        for job in jobs(self.source.tensors[: index + 1], _JOB_WEIGHTS):
            if job.index == index:
                yield job.matrix, self.source.read(tensor, job.piece, job.start, job.stop)
