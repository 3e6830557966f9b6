"""`compare` and the blind choices that the page of `serve` keeps."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.model_identity import identity
from franken_gguf.runner.cli.compare_votes import votes_between
from franken_gguf.runner.compare.candidates import read_candidates
from franken_gguf.runner.compare.results.votes import Vote, VotedModel, encode
from support.compare_command import refused, run
from support.models import demo_gguf, smollm2


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The shortest comparison of two quants; measured once, its results stay in the cache."""
    models = (demo_gguf("Q8_0"), demo_gguf("Q4_K_M"))
    short = ("-t", "1", "-n", "1", "--samples", "0", "--prompt", "Say hello.")
    return list(map(str, ("compare", *models, *short, "--cache", tmp_path_factory.mktemp("cache"))))


def votes_file(folder: Path, *others: str) -> Path:
    """Seven choices of Q8_0's answer, two of Q4_K_M's and an equal one; then other lines."""
    pair = [
        VotedModel(f"renamed {n}.gguf", identity(read_header(demo_gguf(kind))))
        for n, kind in enumerate(("Q8_0", "Q4_K_M"))
    ]
    better, worse = pair
    votes = [Vote((better, worse), 0)] * 4 + [Vote((worse, better), 1)] * 3
    votes += [Vote((worse, better), 0)] * 2 + [Vote((better, worse), None)]
    votes += [Vote((better, VotedModel("elsewhere.gguf", "another")), 1)]
    path = folder / "votes.jsonl"
    path.write_text("".join(map(encode, votes)) + "".join(f"{one}\n" for one in others))
    return path


def test_blind_choices_are_in_the_table_the_json_and_the_report(
    words: list[str], tmp_path: Path
) -> None:
    votes, report = votes_file(tmp_path, '{"version": 1, "mo'), tmp_path / "votes.html"
    again = (*words, "--votes", votes)
    found = run(*again, "--json")
    assert found.stderr.splitlines()[0] == (
        f"{votes}: line 12 is not a blind choice and is ignored"
    )
    (preference,) = json.loads(found.stdout)["preferences"]
    share = preference.pop("share")
    assert (share["value"], round(share["low"], 4), round(share["high"], 4)) == (
        7 / 9,
        0.3999,
        0.9719,
    )
    assert round(preference.pop("p_value"), 4) == 0.1797
    assert preference == {
        "first": "Q8_0",
        "second": "Q4_K_M",
        "first_chosen": 7,
        "second_chosen": 2,
        "equal": 1,
    }
    sentence = (
        "In 10 blind choices, Q8_0 was preferred to Q4_K_M in 7 of 9, 1 equal (40 to 97 %, "
        "p = 0.18): chance could explain that."
    )
    assert sentence in json.loads(found.stdout)["conclusion"]
    shown = run(*again, "--report", report, COLUMNS="120")
    table = shown.stdout[shown.stdout.index("blind choices") :]
    assert "7 of 9, 1 equal" in table and "2 of 9, 1 equal" in table and "40 to 97 %" in table
    page = html.unescape(report.read_text())
    assert sentence in page and "2 of 9, 1 equal" in page


def test_the_users_own_blind_choices_are_found(words: list[str], tmp_path: Path) -> None:
    own = tmp_path / "franken-gguf"
    own.mkdir()
    votes_file(own)
    home = {"XDG_DATA_HOME": str(tmp_path)}
    found = run(*words, "--json", **home)
    assert [one["equal"] for one in json.loads(found.stdout)["preferences"]] == [1]


def test_a_file_without_blind_choices_between_the_models_is_named(tmp_path: Path) -> None:
    missing, foreign = tmp_path / "none.jsonl", tmp_path / "chat.jsonl"
    foreign.write_text('{"user_name": "Ann"}\n')
    models = (smollm2(), demo_gguf("Q8_0"))
    assert refused(*models, "--votes", missing) == (
        f"Error: {missing}: there is no such file; 'serve --compare-with' writes one"
    )
    assert refused(*models, "--votes", smollm2()).startswith(f"Error: {smollm2()}: ")
    assert refused(*models, "--votes", foreign) == (
        f"Error: {foreign}: has no blind choices; give a file that 'serve --compare-with' has "
        "written"
    )


def test_choices_between_other_models_are_left_out_with_their_names(tmp_path: Path) -> None:
    written = io.StringIO()
    notices = Console(file=written, width=300)
    candidates = read_candidates([smollm2(), demo_gguf("Q8_0")])
    votes = votes_file(tmp_path)
    assert votes_between(candidates, votes, notices) == ()
    assert written.getvalue() == (
        f"{votes}: no choices between these models, only of elsewhere.gguf, renamed 0.gguf, "
        "renamed 1.gguf\n"
    )
