"""gate_mode balanced over a calibration text: every expert's load stays within the bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.calibration import PASSAGES, TOKENS, passages
from franken_gguf.quantize.merge.load_balance import balance_load, chosen, load_range, wins
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.tokenizer.tokenizer_check import reference_tokenizer
from franken_gguf.runner.cli import main
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from support.merges import make_dense, write_recipe
from support.models import ROOT, dense_checkpoint

F32 = NDArray[np.float32]


def rows_and_states(
    seed: int, experts: int, common: float, *, tokens: int = 600, layers: int = 2
) -> tuple[F32, F32]:
    """A router's rows, and states of which `common` times the noise is the same in every token."""
    rng = np.random.default_rng(seed)
    mean = common * rng.standard_normal(96)
    states = (rng.standard_normal((layers, tokens, 96)) + mean).astype(np.float32)
    return rng.standard_normal((layers, experts, 96), np.float32), states


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    experts=st.integers(2, 16),
    used=st.integers(1, 4),
    common=st.floats(1, 30),
    bound=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
)
def test_every_load_comes_within_the_bound(
    seed: int, experts: int, used: int, common: float, bound: float
) -> None:
    used = min(used, experts)
    rows, states = rows_and_states(seed, experts, common, tokens=1000)
    loads = chosen(balance_load(rows, states, used, bound), states, used).mean(axis=1)
    assert np.abs(loads * experts / used - 1).max() <= bound + 1e-9


def test_rows_are_moved_along_the_mean_state_alone() -> None:
    rows, states = rows_and_states(1, 4, 5)
    moved = balance_load(rows, states, 2, 0.1) - rows
    mean = states.mean(axis=1)
    along = np.einsum("leh,lh->le", moved, mean) / np.square(mean).sum(axis=1)[:, None]
    assert moved == pytest.approx(along[:, :, None] * mean[:, None], abs=1e-5)
    assert np.abs(moved).max() > 0.01


def test_rows_that_are_even_enough_stay_as_they_are() -> None:
    rows, states = rows_and_states(2, 4, 0)
    least, most = load_range(rows, states, 2)
    assert 0.4 < least < most < 0.6
    assert (balance_load(rows, states, 2, 0.25) == rows).all()
    assert (balance_load(rows, states, 4, 0.01) == rows).all()


def test_without_anything_in_common_rows_get_no_worse() -> None:
    rows, states = rows_and_states(3, 32, 0, tokens=60)
    before, after = (
        load_range(each, states, 2) for each in (rows, balance_load(rows, states, 2, 0.01))
    )
    assert max(1 / 16 - after[0], after[1] - 1 / 16) <= max(1 / 16 - before[0], before[1] - 1 / 16)
    nothing = np.zeros_like(states)
    assert (balance_load(rows, nothing, 2, 0.01) == rows).all()


def test_a_prompt_is_won_by_the_expert_that_has_the_most_say_in_it() -> None:
    rows = np.eye(3, dtype=np.float32)[None]
    prompt = np.array([[[3, 2, 1], [3, 1, 2], [1, 3, 2]]], np.float32)
    for used in (1, 2, 3):
        assert [wins(rows, prompt, expert, used) for expert in range(3)] == [True, False, False]
    assert not any(wins(rows, np.ones_like(prompt), expert, 3) for expert in range(3))


def spelled(text: str) -> list[int]:
    return list(text.encode())


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_any_text_gives_a_few_passages_of_it(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(f"a{text}" * 40, encoding="utf-8", newline="")
    found = passages(path, spelled)
    whole = path.read_text(encoding="utf-8").encode()
    assert 0 < len(found) <= PASSAGES
    assert all(len(ids) <= TOKENS and bytes(ids) in whole for ids in found)


def test_passages_begin_with_words_all_over_the_text(tmp_path: Path) -> None:
    words = [f"word{number:05}" for number in range(10_000)]
    (tmp_path / "text.txt").write_text(" ".join(words))
    found = [bytes(ids).decode() for ids in passages(tmp_path / "text.txt", spelled)]
    numbers = [int(text[4:9]) for text in found]
    assert [text[:4] for text in found] == ["word"] * PASSAGES
    steps = np.diff([*numbers, 10_000])
    assert np.abs(steps - 625).max() <= 2
    (tmp_path / "short.txt").write_text("Once upon a time.\n")
    assert passages(tmp_path / "short.txt", spelled) == [list(b"Once upon a time.")]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed)
    (tmp_path / "tales.txt").write_text("Once there was a keeper of the light. " * 100)
    return tmp_path


EXPERTS = [
    {"source_model": "poet", "positive_prompts": ["moon", "a sea"], "negative_prompts": ["7"]},
    {"source_model": "cook", "positive_prompts": ["salt"]},
    {"source_model": "cook", "positive_prompts": ["the ship"]},
]


def recipe(folder: Path, **fields: Any) -> Path:
    return write_recipe(folder / "tales.yml", *EXPERTS, **({"gate_mode": "balanced"} | fields))


def test_the_recipes_text_is_run_behind_its_prompts_and_evens_the_load(models: Path) -> None:
    path = recipe(models, calibration_text="tales.txt", load_bound=0.1)
    source = merge_source(path)
    prompts = source.router.prompts()
    tokenize = reference_tokenizer(models / "base")
    assert prompts[:5] == [
        tokenize(f"<|im_start|>{text}") for text in ("moon", "a sea", "7", "salt", "the ship")
    ]
    assert len(prompts) == 5 + 8
    rng = np.random.default_rng(0)
    states = [
        (3 + rng.standard_normal((2, 60, 64)) * (1 if number < 5 else 0.5)).astype(np.float32)
        for number in range(len(prompts))
    ]
    source.route(states)
    rows = source.weights.rows
    assert rows is not None
    least, most = load_range(rows, np.concatenate(states[5:], axis=1), 2)
    assert 0.6 <= least < 2 / 3 < most <= 0.7334
    load, won = source.notices
    assert load.startswith(
        f"{models / 'tales.txt'}: in every layer each expert processes {100 * least:.0f} to "
        f"{100 * most:.0f} % of its tokens (average 67 %; before balancing "
    )
    assert won.endswith(" of 4 prompts route mainly to their own expert")


def test_states_that_are_not_finite_name_the_base_model(models: Path) -> None:
    source = merge_source(recipe(models))
    states = [np.full((2, 3, 64), np.nan, np.float32)] * 5
    with pytest.raises(
        MergeError, match=r"base: its states or embeddings for the prompts hold NaN or Inf"
    ):
        source.route(states)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"calibration_text": "lost.txt"}, r"calibration_text: 'lost\.txt': no such file"),
        ({"calibration_text": "poet"}, r"calibration_text: 'poet': no such file"),
        ({"calibration_text": ["tales.txt"]}, r"calibration_text: .* no such file"),
        ({"load_bound": 0}, r"load_bound: 0 is not from 0\.01 to 1"),
        ({"load_bound": 1.5}, r"load_bound: 1\.5 is not from"),
        ({"load_bound": float("nan")}, r"load_bound: nan is not a number"),
        ({"load_bound": 0.2, "gate_mode": "hidden"}, r"need gate_mode: balanced"),
        ({"calibration_text": "tales.txt", "gate_mode": "random"}, r"need gate_mode: balanced"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(
    models: Path, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MergeError, match=reason):
        merge_source(recipe(models, **fields))


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b" \n ", r"empty\.txt: is empty"), (b"\xff\xfe", r"empty\.txt: not UTF-8")],
)
def test_a_calibration_text_without_words_is_refused(
    models: Path, text: bytes, reason: str
) -> None:
    (models / "empty.txt").write_bytes(text)
    with pytest.raises(MergeError, match=reason):
        merge_source(recipe(models, calibration_text="empty.txt")).router.prompts()


def test_in_llama_cpp_the_load_over_the_text_is_within_the_bound(tmp_path: Path) -> None:
    """Two experts that are the base itself: what their router sees is what the base's would."""
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "LICENSE").read_text()[:4000])
    base = str(dense_checkpoint())
    asked = ["Tell me a story", "Add 7 to 12"]
    path = write_recipe(
        tmp_path / "licence.yml",
        *({"source_model": base, "positive_prompts": [prompt]} for prompt in asked),
        base_model=base,
        gate_mode="balanced",
        calibration_text=str(text),
        experts_per_token=1,
    )
    out = tmp_path / "out.gguf"
    words = ["convert", str(path), "-q", "Q8_0", "-o", str(out)]
    result = CliRunner().invoke(main, [*words, "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert f"{text}: in every layer each expert processes" in " ".join(result.stderr.split())

    probe = RouterProbe()
    options = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=TOKENS)
    parts = merge_source(path).router.prompts()[len(asked) :]
    work = np.zeros((30, 2))
    with Engine(read_header(out), options, probe=probe) as engine:
        for ids in parts:
            engine.forget_from(0)
            engine.logits(ids)
            for layer, experts in probe.chosen.items():
                work[layer] += np.bincount(experts.ravel(), minlength=2)
    loads = work / sum(map(len, parts))
    # A token on the edge may fall to the other side where all is computed in another order.
    assert np.abs(loads / 0.5 - 1).max() < 0.25 + 0.02
