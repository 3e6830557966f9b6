"""`compare` as a user types it, on the demo's quants: what it measures, shows and resumes."""

from __future__ import annotations

import csv
import html
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.compare_command import SMALL, run
from support.models import demo_checkpoint, demo_gguf, patched_smollm2, smollm2
from support.workers import COMMAND

QUESTION = """\
ask: "Would you rather have {first} or {second}?"
paraphrases: ["Choose: {first} or {second}?"]
answers:
  tea: [tea, Tea]
  coffee: [coffee, Coffee]
"""
STORY = "The sea was calm, and the keeper of the light wrote in his book; "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "drink.yml").write_text(QUESTION)
    (folder / "story.txt").write_text(STORY * 80)
    return folder


@pytest.fixture(scope="module")
def words(folder: Path) -> list[str]:
    """The command of most tests: two quants, two prompts, two chunks of a text."""
    models = (demo_gguf("Q8_0"), demo_gguf("Q4_K_M"))
    text = ("--prompt", f"@{folder / 'drink.yml'}", "--text", folder / "story.txt", "--chunks", "2")
    names = ("--expert-names", "bard, sage,poet,clown")
    return [str(word) for word in ("compare", *models, *SMALL, *text, *names)]


@pytest.fixture(scope="module")
def done(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """One run, whose results stay in the folder `cache`."""
    reports = [
        word
        for kind, name in (("--json", "first.json"), ("--csv", "first.csv"), ("--report", "a.html"))
        for word in (kind, folder / name)
    ]
    return run(*words, "--cache", folder / "cache", *reports)


@pytest.fixture(scope="module")
def document(folder: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    first, estimate, second, *_ = done.stderr.splitlines()
    assert (done.returncode, first, second) == (
        0,
        "1 of 2  Q8_0: measuring",
        "2 of 2  Q4_K_M: measuring",
    )
    assert re.fullmatch(
        r"this takes at most about \d+ (seconds|minutes), less if answers end early", estimate
    )
    found: dict[str, Any] = json.loads((folder / "first.json").read_text())
    return found


def test_the_largest_is_the_baseline_and_the_other_differs_from_it(
    document: dict[str, Any],
) -> None:
    base, other = document["models"]
    assert (document["baseline"], base["name"], other["name"]) == ("Q8_0", "Q8_0", "Q4_K_M")
    assert base["bits_per_weight"] > other["bits_per_weight"] and base["nbytes"] > other["nbytes"]
    for part in ("text", "answers"):
        assert base[part]["kld"] is None
        assert base[part]["tokens"] == other[part]["tokens"]
        assert 0 < other[part]["kld"]["value"] < 1
        assert other[part]["same_top"]["low"] < other[part]["same_top"]["value"] <= 1
    assert base["text"]["tokens"] == 2 * 255
    assert document["preferences"] == []


def test_the_lean_is_measured_over_paraphrases_and_orders_with_its_noise(
    document: dict[str, Any],
) -> None:
    prompt = document["prompts"][1]
    assert (prompt["name"], prompt["labels"], prompt["wordings"]) == ("drink", ["tea", "coffee"], 4)
    base, other = (one["prompts"][1]["lean"] for one in document["models"])
    assert base["difference"] is None
    mean = sum(other["paraphrases"]) / 2 - sum(base["paraphrases"]) / 2
    assert other["difference"]["value"] == pytest.approx(mean)
    # On a CPU, Q8_0 gives the same logits in batches of any size.
    assert other["noise"] == base["noise"] == 0
    for one in document["models"]:
        choices = [sample["choice"] for sample in one["prompts"][1]["samples"]]
        assert one["prompts"][1]["choices"]["first"] == choices.count(0)
        assert one["prompts"][0]["lean"] is None


def test_an_answer_differs_first_at_a_token_that_is_more_likely_in_its_model(
    document: dict[str, Any],
) -> None:
    base, other = document["models"]
    # The answers to "Say hello." do: "Hello! I's" and "Hello! I'm", by far the likeliest in theirs.
    assert any(one["greedy"]["difference"] for one in other["prompts"])
    for theirs, ours in zip(base["prompts"], other["prompts"], strict=True):
        found = ours["greedy"]["difference"]
        if found is None:
            assert ours["greedy"]["text"] == theirs["greedy"]["text"]
            continue
        place = found["character"]
        assert ours["greedy"]["text"][:place] == theirs["greedy"]["text"][:place]
        assert ours["greedy"]["text"] != theirs["greedy"]["text"]
        assert found["own_probability"][0] > found["baseline_probability"][0] * 0.9
        assert found["baseline_probability"][1] > found["own_probability"][1] * 0.9


def test_the_routers_of_every_layer_are_compared(document: dict[str, Any]) -> None:
    base, other = (one["routing"] for one in document["models"])
    assert base["same_experts"] is None
    assert len(base["layers"]) == len(other["layers"]) == 30
    for layer in (*base["layers"], *other["layers"]):
        assert sum(layer["load"]) == pytest.approx(1)
        # Two of four experts for each token: 0.5 if they are always the same two.
        assert 0.5 < layer["load_entropy"] < 1
    assert 0.5 < other["same_experts"] < other["jaccard"] < 1
    worst = max(range(30), key=lambda n: other["layers"][n]["kld"])
    assert other["drift"][0] == worst


def test_the_table_shows_models_side_by_side_and_the_answers(
    done: subprocess.CompletedProcess[str], document: dict[str, Any]
) -> None:
    assert re.search(r"^ *Q8_0 +Q4_K_M *$", done.stdout, re.M)
    for row in (
        "size",
        "perplexity",
        "KL divergence",
        "change from Q8_0",
        "same experts",
        "entropy of the load",
        "load of poet",
        "tokens/s",
    ):
        assert re.search(rf"^ +{re.escape(row)} ", done.stdout, re.M), row
    assert "Say hello." in done.stdout
    for model in document["models"]:
        assert f"{model['prompts'][1]['choices']['first']} of 2 tea" in done.stdout
    shown = " ".join(done.stdout.split())
    assert "How often the router sends a token to the same experts as Q8_0's; " in shown
    assert "drink: + is tea, - is coffee" in shown
    entropies = [f"{100 * one['routing']['load_entropy']:.1f} %" for one in document["models"]]
    assert f"entropy of the load {' '.join(entropies)} load of bard" in shown
    assert not [line for line in done.stdout.splitlines() if len(line) > 80]


def test_the_table_and_the_page_end_with_the_same_conclusion(
    folder: Path, done: subprocess.CompletedProcess[str], document: dict[str, Any]
) -> None:
    assert done.stderr.splitlines()[3:] == [
        f"written: {folder / name}" for name in ("first.json", "first.csv", "a.html")
    ]
    conclusion = document["conclusion"]
    assert conclusion.startswith(
        "Take Q8_0 if you have 556.9 MiB for the weights and Q4_K_M if you have 322.1 MiB. "
    )
    assert "2 wordings are too few to compare leans on drink; write at least 5." in conclusion
    assert " ".join(done.stdout.split()).endswith(conclusion)
    assert conclusion in html.unescape((folder / "a.html").read_text())
    with (folder / "first.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, model in zip(rows, document["models"], strict=True):
        assert row["name"] == model["name"]
        assert float(row["text.ppl.value"]) == model["text"]["ppl"]["value"]


def apart_from_the_machine(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    for model in found["models"]:
        assert model.pop("machine")["load_seconds"] > 0
    return found


def test_another_run_measures_the_same_and_an_interrupted_one_resumes(
    folder: Path, words: list[str], document: dict[str, Any]
) -> None:
    again = [*words, "--cache", str(folder / "again"), "--json", str(folder / "again.json")]
    with subprocess.Popen([COMMAND, *again], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("2 of 2"):
            pass
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert (process.returncode, errors) == (
        130,
        "Interrupted; run the same command to resume.\n",
    )
    assert not (folder / "again.json").exists()
    resumed = run(*again)
    assert resumed.stderr.startswith(
        "1 of 2  Q8_0: already measured\n2 of 2  Q4_K_M: measuring\nthis takes at most about "
    )
    first, second = (apart_from_the_machine(folder / f"{name}.json") for name in ("first", "again"))
    assert first == second
    assert not list((folder / "again").glob("compare/*/baseline"))


def test_what_was_measured_is_not_measured_again_and_reports_are_the_same_bytes(
    folder: Path, words: list[str], document: dict[str, Any]
) -> None:
    once_more = run(*words, "--cache", folder / "cache", "--json")
    assert once_more.stderr == "1 of 2  Q8_0: already measured\n2 of 2  Q4_K_M: already measured\n"
    assert once_more.stdout == (folder / "first.json").read_text()


def test_a_dense_model_has_no_routing_and_a_broken_one_fails_alone(
    folder: Path, tmp_path: Path
) -> None:
    broken = patched_smollm2(tmp_path / "broken-Q2_K.gguf", (b"blk.3.attn_q.", b"blk.3.attn_x."))
    words = ("compare", broken, smollm2(), demo_gguf("Q8_0"), *SMALL, "--cache", tmp_path)
    found = run(*words, "--json", "--baseline", "Q8_0")
    assert found.returncode == 0
    models = {one["name"]: one for one in json.loads(found.stdout)["models"]}
    dense, failed = models["Q4_1"], models["Q2_K"]
    assert (dense["experts"], dense["routing"], dense["error"]) == (0, None, "")
    assert dense["answers"]["kld"]["value"] > 0
    assert "tensor 'blk.3.attn_q.weight' not found" in failed["error"]
    assert failed["prompts"] == [None]


def test_quants_of_a_checkpoint_are_converted_once_and_kept(tmp_path: Path) -> None:
    source = ("--source", demo_checkpoint(), "-q", "q4_0", "-t", "1", "-n", "1")
    words = ("compare", *source, "--samples", "0", "--prompt", "Hi.", "--cache", tmp_path, "--json")
    first = run(*words)
    assert (
        f"kept the converted files in {tmp_path / 'quants'} for later comparisons" in first.stderr
    )
    (kept,) = tmp_path.glob("quants/*/*.gguf")
    assert kept.name == f"{demo_checkpoint().name}-Q4_0.gguf"
    second = run(*words)
    assert second.stderr == "1 of 1  Q4_0: already measured\n"
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert [one["file"] for one in json.loads(second.stdout)["models"]] == [str(kept)]
