"""--kernels: ggml's function writes our bytes, and is taken where it is faster on this machine."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8, Step
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.engine.ggml_quantize import GgmlQuantize, quantize_library
from franken_gguf.runner.kernels.kernel_choice import choose_kernels, is_ggml_faster
from franken_gguf.runner.kernels.kernel_speeds import Speeds, record_path, speeds
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.ggml import HAS_EXACT_GGML
from support.merges import run

Q4_K = Step("Q4_K", False)
BLOCK_TYPES = [name for name, codec in FORMATS.items() if codec.block_len > 1]
exact = pytest.mark.skipif(not HAS_EXACT_GGML, reason="ggml's bytes are only equal on x86-64")


@exact
@pytest.mark.parametrize("mode", ["numpy", "ggml", "auto"])
def test_the_file_is_the_same_whoever_quantizes(tmp_path: Path, mode: str) -> None:
    folder = make_checkpoint(tmp_path / "tales", **SMALL)
    words = (folder, "-q", "Q4_K_M", "-q", "Q5_0", "--threads", "2", "-o", tmp_path / mode)
    done = run("convert", *words, "--kernels", mode)
    assert done.exit_code == 0, done.stderr
    plain = run("convert", *words[:-1], tmp_path / "plain", "--kernels", "numpy")
    assert plain.exit_code == 0, plain.stderr
    if mode != "auto":  # which depends on the machine
        assert ("by ggml" in done.stderr) == (mode == "ggml")
    files = [path.name for path in (tmp_path / "plain").iterdir()]
    assert sorted(files) == ["tales-Q4_K_M.gguf", "tales-Q5_0.gguf"]
    for name in files:
        assert (tmp_path / mode / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


@exact
@pytest.mark.parametrize("name", [name for name in BLOCK_TYPES if not name.startswith("IQ1")])
def test_a_function_sent_to_a_worker_writes_the_same_bytes(name: str) -> None:
    rng = np.random.default_rng(3)
    rows, importance = rng.standard_normal((3, 512), np.float32), rng.random(512, np.float32)
    quantize = pickle.loads(pickle.dumps(GgmlQuantize(name, quantize_library())))
    assert (quantize(rows, importance) == FORMATS[name].quantize(rows, importance)).all()


@pytest.mark.parametrize(
    ("measured", "weights", "is_faster"),
    [
        (Speeds(numpy=2e-9, ggml=1e-9, ggml_start=0, equal=True), 1, True),
        (Speeds(numpy=2e-9, ggml=1e-9, ggml_start=0, equal=False), 1, False),
        (Speeds(numpy=2e-9, ggml=1.9e-9, ggml_start=0, equal=True), 1, False),
        (Speeds(numpy=2e-9, ggml=1e-9, ggml_start=1, equal=True), 1e9, False),
        (Speeds(numpy=2e-9, ggml=1e-9, ggml_start=1, equal=True), 2e9, True),
    ],
)
def test_ggml_must_be_clearly_faster_with_its_start_included(
    measured: Speeds, weights: float, is_faster: bool
) -> None:
    assert is_ggml_faster(measured, weights) is is_faster


@exact
def test_speeds_are_measured_once_and_a_broken_record_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = speeds([Q4_K], quantize_library())
    assert first[Q4_K].equal
    assert speeds([Q4_K], quantize_library()) == first
    assert set(speeds([Q4_K, Step("Q8_0", False)], quantize_library())) == {
        Q4_K,
        Step("Q8_0", False),
    }
    for broken in ("", "[]]", '[["Q4_K", false, {"numpy": NaN}]]', '[["X", 0, {}]]', "7"):
        record_path().write_text(broken)
        assert speeds([Q4_K], quantize_library())[Q4_K].equal
        assert len(json.loads(record_path().read_text())) == 1


def test_numpy_needs_no_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", "/nowhere")
    assert choose_kernels("numpy", {Q4_K: 1}, 1) == {}
    assert choose_kernels("auto", {Q4_K: 1 << 40}, 1) == {}


def test_ggml_without_its_library_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(tmp_path / "tales", **SMALL)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    result = run("convert", folder, "--kernels", "ggml", "--dry-run")
    assert result.exit_code == 1
    assert "has no libggml-base; use --kernels numpy" in result.stderr


def test_weights_that_ggml_could_abort_on_are_left_to_numpy(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales", layout="fused", **SMALL)
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2:] = 0xC800.to_bytes(2, "little")  # -131072 in BF16
    weights.write_bytes(data)
    largest = []

    def quantize(rows: F32, importance: F32 | None) -> U8:
        largest.append(float(np.abs(rows).max()))
        return FORMATS["Q8_0"].quantize(rows, importance)

    model = open_source(checkpoint)
    output = plan_output(model, tmp_path / "tales.gguf", find_preset("Q8_0"))
    convert(model, [output], kernels={Step("Q8_0", False): quantize})
    assert largest
    assert max(largest) <= 65504
