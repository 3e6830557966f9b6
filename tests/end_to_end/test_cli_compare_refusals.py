"""`compare` with wrong words and files: one line, before anything is measured."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.compare_command import refused
from support.models import demo_gguf, patched_smollm2, smollm2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "Error: nothing to compare; give one or more MODELs, or --source SOURCE -q TYPE"),
        (("--source", "x"), "Error: --source needs at least one -q TYPE, and no MODEL"),
        (
            ("x.gguf", "--csv", "a", "--report", "a"),
            "Error: --json, --csv and --report must be different files",
        ),
        (
            ("x.gguf", "--no-prompts"),
            "Error: --no-prompts leaves nothing to measure; give --text FILE",
        ),
        (("no.gguf",), "Error: no.gguf: no such file"),
        (("x", "--prompt", "@no.yml"), "Error: no.yml: No such file or directory"),
        (("x", "--text", "no.txt"), "Error: no.txt: No such file or directory"),
        (
            ("x", "--json", "no/where.json"),
            "Error: no/where.json: there is no folder no; create it first",
        ),
    ],
)
def test_an_input_or_folder_that_does_not_exist_is_named(words: Sequence[str], reason: str) -> None:
    assert refused(*words) == reason


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    model = shutil.copy(smollm2(), tmp_path / "model.gguf")
    reason = refused("--json", model, smollm2(), "--prompt", "a")
    assert reason == f"Error: {model}: already exists; --overwrite replaces it"


def test_a_vocabulary_that_differs_is_refused_with_the_token(tmp_path: Path) -> None:
    other = patched_smollm2(tmp_path / "other.gguf", (b"<|im_start|>", b"<|im_stert|>"))
    reason = refused(smollm2(), other, "--baseline", smollm2(), "--prompt", "a")
    assert reason == (
        f"Error: {other}: its vocabulary differs from that of {smollm2()}: token 1 is "
        "'<|im_stert|>', not '<|im_start|>'; compare quants of the same model"
    )


def test_a_baseline_that_is_not_compared_is_refused_with_the_choices() -> None:
    reason = refused(demo_gguf("Q8_0"), demo_gguf("Q4_K_M"), "--baseline", "F16")
    assert reason == ("Error: --baseline F16: is not one of the models to compare: Q8_0, Q4_K_M")


def test_names_for_more_experts_than_there_are_are_refused() -> None:
    reason = refused(demo_gguf("Q8_0"), "--expert-names", "a,b,c,d,e")
    assert reason == (
        f"Error: --expert-names a,b,c,d,e: has 5 names, but {demo_gguf('Q8_0')} has 4 experts; "
        "give one for each, separated by commas"
    )


def test_a_model_named_twice_is_refused() -> None:
    reason = refused(smollm2(), smollm2())
    assert reason == f"Error: {smollm2()}: is given twice; give each model once"


def test_a_text_that_is_empty_or_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "short.txt").write_text("Call me Ishmael.")
    empty, short = (
        refused(smollm2(), "--prompt", "a", "--text", tmp_path / name)
        for name in ("empty.txt", "short.txt")
    )
    assert empty == f"Error: {tmp_path / 'empty.txt'}: is empty; give a text to score"
    assert short == (
        "Error: short.txt: the text has 4 tokens, but scoring needs 1024; give a longer text"
    )


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers() -> None:
    reason = refused(smollm2(), "--prompt", "word " * 600, "-c", "512", "-n", "8")
    assert re.fullmatch(
        r"Error: prompt 'word word .*\.\.\.' needs 6\d\d tokens with its answer, but -c "
        r"allows 512; shorten the prompt, or its answers with -n",
        reason,
    )
