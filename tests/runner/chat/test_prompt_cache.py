"""The evaluated context on disk: it saves the evaluation, and anything else throws it away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.chat.prompt_cache import load_context, save_context
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.sampling.settings import Sampling
from support.models import smollm2

GREEDY = Sampling(temperature=0)
STORY = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,"


def engine(
    model: Path | None = None, n_ctx: int = 256, rope_freq_base: float | None = None
) -> Engine:
    options = LoadOptions(n_ctx=n_ctx, n_threads=1, n_gpu_layers=0, rope_freq_base=rope_freq_base)
    return Engine(read_header(model or smollm2()), options)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / ".tale.kv"
    with engine() as first:
        first.evaluate(first.vocabulary.prompt(STORY))
        nbytes = save_context(first, path)
    assert path.stat().st_size == nbytes
    assert path.stat().st_mode & 0o777 == 0o600
    return path


def test_a_saved_context_needs_no_evaluation_and_continues_the_same(kept: Path) -> None:
    with engine() as fresh, engine() as resumed:
        prompt = fresh.vocabulary.prompt(STORY)
        expected = list(fresh.generate(prompt, GREEDY, 8))
        assert load_context(resumed, kept)
        answer = resumed.generate(prompt, GREEDY, 8)
        assert list(answer) == expected
        assert answer.prompt_evaluated == 1
    assert kept.exists()


def test_a_missing_cache_loads_nothing(tmp_path: Path) -> None:
    with engine() as fresh:
        assert not load_context(fresh, tmp_path / "none")


@pytest.mark.parametrize("kind", ["cut", "flipped", "longer", "empty", "forged"])
def test_a_damaged_cache_is_thrown_away(kept: Path, kind: str) -> None:
    data = bytearray(kept.read_bytes())
    if kind == "flipped":
        data[len(data) // 2] ^= 1
    changed: dict[str, bytes | bytearray] = {
        "cut": data[:-100],
        "flipped": data,
        "longer": data + b"x",
        "empty": b"",
        "forged": b"cos\nsystem\n(S'id'\ntR." * 100,
    }
    kept.write_bytes(changed[kind])
    with engine() as fresh:
        assert not load_context(fresh, kept)
        assert fresh.evaluated == []
    assert not kept.exists()


def test_a_cache_of_another_context_size_is_thrown_away(kept: Path) -> None:
    with engine(n_ctx=512) as other:
        assert not load_context(other, kept)
    assert not kept.exists()


def test_a_cache_of_another_rope_scaling_is_thrown_away(kept: Path) -> None:
    with engine(rope_freq_base=2e5) as other:
        assert not load_context(other, kept)
    assert not kept.exists()


def test_a_cache_of_another_file_of_the_same_shape_is_thrown_away(
    kept: Path, tmp_path: Path
) -> None:
    # The same bytes at another time: as a model that was quantized anew, or swapped.
    copy = Path(shutil.copy(smollm2(), tmp_path / "copy.gguf"))
    os.utime(copy, (1e9, 1e9))
    with engine(copy) as other:
        assert not load_context(other, kept)
    assert not kept.exists()
