"""The running model's weights, replaced in memory and restored."""

from __future__ import annotations

import numpy as np

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.model_weights import ModelWeights
from support.models import smollm2


def test_replaced_weights_change_the_logits_and_restored_ones_restore_them() -> None:
    header, weights = read_header(smollm2()), ModelWeights()
    options = LoadOptions(n_ctx=64, n_outputs=8, mmap=False, repack=False, n_threads=1)
    tokens = list(range(100, 108))
    with Engine(header, options, probe=weights) as engine:

        def logits() -> np.ndarray:
            engine.forget_from(0)
            return engine.logits(tokens).copy()

        before = logits()
        changed = {}
        matrices = [tensor for tensor in header.tensors if len(tensor.shape) > 1]
        assert all(tensor.name in weights for tensor in matrices)
        for tensor in matrices[::60]:
            original = weights.read(tensor.name)
            stored = np.fromfile(header.path, np.uint8, original.size, offset=tensor.offset)
            assert (original == stored).all()
            weights.write(tensor.name, np.zeros_like(original))
            changed[tensor.name] = (logits() != before).any()
            weights.write(tensor.name, original)
        assert changed and all(changed.values())
        assert (logits() == before).all()
