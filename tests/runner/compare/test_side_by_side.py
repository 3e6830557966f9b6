"""How many answers are drawn side by side, and how long a comparison takes at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.compare.measure.questions import question
from franken_gguf.runner.compare.measure.side_by_side import side_by_side
from franken_gguf.runner.compare.measure.tasks import Tasks, prepare
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.ui.compare_screen import at_most
from support.models import smollm2

SETTINGS = Settings(32, 0.8, 1, 48, 1, "", 0, 512)


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    return prepare(read_header(smollm2()), [question("eternal-life")], "", SETTINGS)


def test_the_context_holds_every_answer_beside_the_others(tasks: Tasks) -> None:
    found = side_by_side(LoadOptions(), read_header(smollm2()), tasks, SETTINGS)
    count = found.n_sequences - 64
    assert 1 < count <= 32
    assert found.n_ctx == max(512, count * tasks.prompts[0].n_ctx)


def test_long_answers_are_fewer_so_that_the_cache_stays_small(tasks: Tasks) -> None:
    header = read_header(smollm2())
    short = side_by_side(LoadOptions(), header, tasks, SETTINGS)
    prompts = tuple(replace(task, n_ctx=4 * task.n_ctx) for task in tasks.prompts)
    long = side_by_side(LoadOptions(), header, replace(tasks, prompts=prompts), SETTINGS)
    assert long.n_sequences < short.n_sequences
    assert long.n_sequences - 64 >= 1


def test_a_context_that_is_given_stays_and_limits_the_answers(tasks: Tasks) -> None:
    given = LoadOptions(n_ctx=512)
    found = side_by_side(given, read_header(smollm2()), tasks, SETTINGS)
    assert (found.n_ctx, found.n_sequences - 64) == (512, 512 // tasks.prompts[0].n_ctx)


def test_a_time_is_rounded_to_what_can_be_known() -> None:
    assert at_most(3) == "this takes at most about 10 seconds, less if answers end early"
    assert "about 80 seconds," in at_most(83)
    assert "about 3 minutes," in at_most(170)
    assert "about 3 hours," in at_most(10_000)
