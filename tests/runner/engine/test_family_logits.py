"""The logits of a small model of each family, run by llama.cpp, are those of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.conversions import converted
from support.family_checkpoints import CLASSES, LOGIT_TOKENS, FamilyName, make_family_checkpoint

EXPECTED = json.loads(
    (Path(__file__).parents[2] / "expected" / "logits.json").read_text(encoding="utf-8")
)
STEP = 16
OPTIONS = LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0, n_outputs=len(LOGIT_TOKENS))


@pytest.mark.parametrize("family", CLASSES)
def test_an_f16_file_gives_the_logits_of_transformers(tmp_path: Path, family: FamilyName) -> None:
    folder = make_family_checkpoint(tmp_path / family, family)
    (path,) = converted(folder, tmp_path / "out", ["F16"])
    with Engine(read_header(path), OPTIONS) as engine:
        found = engine.logits(LOGIT_TOKENS, 0)[:, ::STEP].copy()
    expected = np.array(EXPECTED[family], np.float32)
    # 2**-11 is the largest relative error of a float16.
    assert np.abs(found - expected).max() < np.abs(expected).max() * 2**-10
    assert expected.std() > 50 * np.abs(found - expected).max()
