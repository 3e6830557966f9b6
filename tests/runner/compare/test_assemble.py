"""From raw measurements to what they say: figures whose truth can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.model_summary import Summary
from franken_gguf.runner.compare.assemble import assemble, words
from franken_gguf.runner.compare.measure.questions import Question
from franken_gguf.runner.compare.measure.raw_measurements import (
    Measured,
    MeasuredAnswers,
    MeasuredPrompt,
    MeasuredScores,
    Run,
    Speed,
)
from franken_gguf.runner.compare.results.document import FirstDifference
from franken_gguf.runner.compare.results.metrics import LayerRouting

DRINK = Question("drink", (("a?", "b?"),) * 5, (("tea", ("tea",)), ("mud", ("mud",))), "lean")
HAIKU = Question("haiku", (("c?",),), (), "haiku")
SUMMARY = Summary("m.gguf", 1000, None, "llama", 2, 512, 2, 1, 800, 600, 10.0, [], {}, {})
SPEED = Speed(10, 0.5, 20, 4.0)
PROMPT = MeasuredPrompt(
    tokens=[5, 6],
    text="tea",
    is_cut=False,
    samples=[(1, "Tea, please.", 0.5), (2, "No. Tea!", 1.5), (3, "mud", -0.5)],
    raw=[[1.0, 3.0]] * 4 + [[2.0, 2.0]],
    per_token=[[0.5, 0.5]] * 5,
    raw_again=[[1.25, 3.25]] * 5,
    speed=SPEED,
)
BASHO = "An old silent pond,\na frog jumps into the pond:\nsplash! Silence again."
POEM = replace(PROMPT, samples=[(1, BASHO, 0.0)], raw=[], per_token=[], raw_again=[])
LAYERS = [LayerRouting((0.5, 0.5), 1.0, 1.0, 0.0), LayerRouting((0.25, 0.75), 0.5, 0.75, 0.1)]
SCORES = MeasuredScores([1.0, 2.0], [0.0, 0.0], [True, True], LAYERS, Speed(100, 0.25))
ANSWERS = replace(SCORES, nll=[1.0] * 6, kld=[0.0] * 6, same_top=[True] * 6)
BASELINE = Measured([PROMPT, POEM], MeasuredAnswers(ANSWERS, [None, None]), SCORES, Run(1.5, 2000))


def measured() -> Measured:
    moved = [[value + 1 for value in orders] for orders in PROMPT.raw]
    prompts: list[MeasuredPrompt | None] = [replace(PROMPT, raw=moved, raw_again=[]), POEM]
    surer = replace(LAYERS[1], same_experts=1.0, load=(1.0, 0.0))
    answers = replace(ANSWERS, nll=[2.0] * 6, kld=[0.1] * 6, routing=[LAYERS[0], surer])
    difference = FirstDifference(0, 0, "mud", "tea", (0.6, 0.2), (0.3, 0.7))
    text = replace(SCORES, nll=[2.0, 3.0], kld=[0.25, 0.75], same_top=[True, False])
    return Measured(prompts, MeasuredAnswers(answers, [difference, None]), text, Run(2.5, 3000))


def test_leans_are_means_over_orders_and_their_difference_is_paired() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).prompts[0]
    assert found is not None and found.lean is not None and found.lean.difference is not None
    assert found.lean.paraphrases == (3.0,) * 5
    assert (found.lean.raw.value, found.lean.difference.value) == (3.0, 1.0)
    assert (found.lean.difference.low, found.lean.difference.high) == (1.0, 1.0)
    # Four paraphrases with 2 between their orders, one with none.
    assert found.lean.order_effect == pytest.approx(-1.6)
    assert found.lean.noise == 0.25
    assert found.lean.moved == 1


def test_sampled_answers_are_counted_by_what_their_model_chose() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).prompts[0]
    assert found is not None and found.choices is not None
    assert [sample.choice for sample in found.samples] == [0, 0, 1]
    assert found.choices.first == 2
    assert found.choices.share.value == pytest.approx(2 / 3)
    assert (found.variety, found.haiku) == (None, None)
    assert found.greedy.difference is not None and found.greedy.difference.own == "mud"


def test_a_haiku_has_its_syllables_and_its_variety() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).prompts[1]
    assert found is not None and found.haiku is not None and found.variety is not None
    assert found.haiku.syllables == ((5, 7, 5),)
    assert found.haiku.valid.value == 1
    assert found.variety.words == 13
    assert found.variety.distinct_1 == pytest.approx(12 / 13)
    assert found.lean is None


def test_scores_are_against_the_baselines_and_the_baseline_has_its_perplexity_alone() -> None:
    other = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).text
    base = assemble("F16", SUMMARY, [DRINK, HAIKU], BASELINE, None).text
    assert other is not None and other.kld is not None and other.same_top is not None
    assert (other.kld.value, other.same_top.value) == (0.5, 0.5)
    assert other.ln_ratio is not None and other.ln_ratio.value == 1
    assert base is not None
    assert base.ppl.value == pytest.approx(np.exp(1.5))
    assert (base.kld, base.same_top) == (None, None)


def test_routing_is_weighted_by_the_positions_of_answers_and_text() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).routing
    assert found is not None and found.tokens == 8
    # Layer 1: six positions of answers with the same experts always, two of text with half.
    assert found.layers[1].same_experts == pytest.approx((6 * 1.0 + 2 * 0.5) / 8)
    assert found.layers[1].load == pytest.approx(((6 * 1.0 + 2 * 0.25) / 8, 2 * 0.75 / 8))
    assert found.same_experts == pytest.approx((1 + 0.875) / 2)
    assert found.drift == (1, 0)


def test_the_entropy_is_that_of_each_layers_load_over_all_positions_averaged_over_layers() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE).routing
    assert found is not None
    # Of the two experts, layer 1 gives 13 of 16 choices to the first.
    uneven = -(13 * math.log2(13 / 16) + 3 * math.log2(3 / 16)) / 16
    assert found.layers[0].load_entropy == 1
    assert found.layers[1].load_entropy == pytest.approx(uneven)
    assert found.load_entropy == pytest.approx((1 + uneven) / 2)


def test_speeds_are_tokens_over_seconds_and_what_was_not_measured_is_none() -> None:
    found = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], measured(), BASELINE)
    assert found.machine is not None
    assert found.machine.prompt_tokens_per_second == 400
    assert found.machine.tokens_per_second == 5
    nothing = Measured([None, None], None, None, None, "no such luck")
    failed = assemble("Q2_K", SUMMARY, [DRINK, HAIKU], nothing, BASELINE)
    assert failed.prompts == (None, None)
    assert (failed.text, failed.routing, failed.machine) == (None, None, None)
    assert failed.error == "no such luck"


def test_words_are_letters_with_their_apostrophes_in_lower_case() -> None:
    found = words("Don't STOP, it\u2019s 5 o'clock -- na\u00efve_test")
    assert found == ["don't", "stop", "it\u2019s", "o'clock", "na\u00efve", "test"]
