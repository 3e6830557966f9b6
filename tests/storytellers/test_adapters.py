"""The demo's experts: what its recipe names, and each the best at its own kind of text."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from random import Random

import pytest
from adapter_figures import FIGURES, table
from adapter_texts import ADAPTERS
from word_problems import word_problem

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.merge.recipe_file import read_recipe
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.compare.measure.scoring import CHUNK, N_OUTPUTS
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.sequences import Continuation
from support.models import ROOT, dense_checkpoint

EXAMPLES = ROOT / "examples"
HELD_OUT = json.loads(FIGURES.read_text())["held_out"]

TEXTS = {
    "storyteller": (
        "Tell me the story of The Miller and the Frost.",
        "There was once a miller who lived by the edge of a great wood, and he had three sons. The "
        "eldest was proud, the second was idle, but the youngest was so kind that even the birds "
        'came to him in the snow. "Father," said he one evening, "let me go out and see who is '
        'knocking at our door." And there stood the Frost himself, an old man in a white cloak.',
    ),
    "reasoner": word_problem(Random(1912)),
    "poet": (
        "Write a sonnet.",
        "When autumn's hand hath stripp'd the golden bough,\n"
        "And all thy summer's sweetness turns to clay,\n"
        "Then shall my verse recall thee, even now,\n"
        "And save thy beauty from the thief of day:\n"
        "For what is time, that he should hold thee dear,\n"
        "And yet consume the face that he did praise?",
    ),
    "chatterbox": (
        "Well, where have you been all the morning? Your aunt was asking for you.",
        "Oh, do be quiet, Fred. I've been at the market, if you must know, and I won't be spoken "
        "to like a child. You might have told her so yourself; but you never do, do you?",
    ),
}
"""Adapter -> a question and an answer in words that none of them has seen."""


def test_the_recipe_merges_every_adapter_on_the_one_base() -> None:
    base = dense_checkpoint()
    recipe = read_recipe(EXAMPLES / "storytellers.yml")
    assert recipe.base.model.resolve() == base
    assert [one.source.model.resolve() for one in recipe.experts] == [base] * len(ADAPTERS)
    adapters = [one.source.adapter for one in recipe.experts]
    assert [one.resolve() for one in adapters if one] == [
        EXAMPLES / "adapters" / name for name in ADAPTERS
    ]
    assert all(len(one.positive) >= 5 for one in recipe.experts)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_names_its_base_and_no_path(name: str) -> None:
    config = json.loads((EXAMPLES / "adapters" / name / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == dense_checkpoint().name
    assert (config["r"], config["lora_alpha"]) == (8, 16)


@pytest.mark.parametrize("source", HELD_OUT)
def test_each_adapter_has_a_lower_loss_than_the_base_on_held_out_text(source: str) -> None:
    own = HELD_OUT[source]["adapter"]
    nats = HELD_OUT[source]["nats_per_token"]
    assert source in ADAPTERS[own]
    assert min(nats, key=nats.__getitem__) == own


def test_the_docs_show_the_current_figures() -> None:
    assert table() in (ROOT / "docs" / "storytellers.md").read_text(encoding="utf-8")


def test_each_adapter_answers_its_own_kind_of_question_better_than_base_and_others() -> None:
    dense_checkpoint()
    found = {name: nats_per_token(name) for name in ("", *ADAPTERS)}
    for place, own in enumerate(TEXTS):
        column = {name: nats[place] for name, nats in found.items()}
        assert min(column, key=column.__getitem__) == own, column


def nats_per_token(adapter: str) -> list[float]:
    """Of each answer in TEXTS, by the base with `adapter` on it; without one for ''."""
    model = str(dense_checkpoint())
    if adapter:
        model += f"+{EXAMPLES / 'adapters' / adapter}"
    # A mixture of one expert twice is that expert.
    recipe = {"base_model": str(dense_checkpoint()), "gate_mode": "uniform_random"}
    with tempfile.TemporaryDirectory() as folder:
        path, gguf = Path(folder) / "twice.yml", Path(folder) / "twice.gguf"
        path.write_text(json.dumps(recipe | {"experts": [{"source_model": model}] * 2}))
        source = merge_source(path)
        convert(source, [plan_output(source, gguf, find_preset("Q8_0"))])
        options = LoadOptions(n_ctx=CHUNK, n_threads=1, n_gpu_layers=0, n_outputs=N_OUTPUTS)
        with Engine(read_header(gguf), options) as engine:
            return [score(engine, *text) for text in TEXTS.values()]


def score(engine: Engine, question: str, answer: str) -> float:
    """The mean of -log p over the tokens of `answer` and the end of the turn."""
    asked = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = engine.vocabulary.prompt(asked)
    answered = engine.vocabulary.prompt(f"{asked}{answer}<|im_end|>")
    assert answered[: len(prompt)] == prompt
    (found,) = engine.score([Continuation(prompt, answered[len(prompt) :])])
    return -float(found.mean())
