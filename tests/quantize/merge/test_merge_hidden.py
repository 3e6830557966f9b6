"""gate_mode hidden on the demo's model: mergekit's router, and transformers' logits of the whole.

The expectations were made by tools/make_merge_expectations.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from franken_gguf.quantize.common.files import read_at
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli import main
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.models import ROOT, dense_checkpoint

EXPECTED = ROOT / "tests" / "expected"
RECIPE = str(EXPECTED / "merge_recipe.yml")
EVERY = 3


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dense_checkpoint()
    folder = tmp_path_factory.mktemp("hidden")
    words = ["convert", RECIPE, "--base-type", "F16", "--threads", "1"]
    result = CliRunner().invoke(main, [*words, "-q", "F16", "-o", str(folder / "out.gguf")])
    assert result.exit_code == 0, result.output
    assert "router rows are very similar" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["out.gguf"]
    return folder / "out.gguf"


def test_a_recipe_has_mergekits_router_and_transformers_logits(merged: Path) -> None:
    theirs = np.load(EXPECTED / "merge_gates.npz")["rows"].astype(np.float64)
    header = read_header(merged)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    for row, layer in enumerate(range(0, 30, EVERY)):
        tensor = tensors[f"blk.{layer}.ffn_gate_inp.weight"]
        raw = read_at(merged, tensor.offset, tensor.nbytes, tensor.name)
        ours = raw.view("<f4").reshape(tensor.shape).astype(np.float64)
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs[row], axis=1)
        assert ((ours * theirs[row]).sum(axis=1) / norms).min() > 0.999
        assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-3)

    document = json.loads((EXPECTED / "merge_logits.json").read_text())
    wanted = np.array(document["logits"])
    options = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=len(wanted))
    with Engine(header, options) as engine:
        rows = engine.logits(document["ids"], len(document["ids"]) - len(wanted))
        got = rows[:, :: document["every"]].astype(np.float64)
    # F16 has 11 bits: rounding each product's factors to them leaves this much in 30 layers.
    assert np.abs(got - wanted).max() < 0.01 * np.abs(wanted).max()
    assert np.sqrt(np.mean(np.square(got - wanted))) < 0.003 * np.sqrt(np.mean(np.square(wanted)))


def test_what_is_there_already_is_refused_before_the_base_model_runs(merged: Path) -> None:
    before = merged.stat()
    result = CliRunner().invoke(main, ["convert", RECIPE, "-q", "F16", "-o", str(merged)])
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {merged}: exists already; add --overwrite to replace it\n",
    )
    assert merged.stat() == before
