"""`franken-gguf chat` with llama.cpp's options of drawing, and phrases that it shall not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_command import PARIS, QUESTION, chat

EVERY = """--temp 0.9 --dynatemp-range 0.3 --dynatemp-exp 1.2 --top-k 30 --top-p 0.9 --min-p 0.02
    --typical 0.98 --top-nsigma 2 --xtc-probability 0.2 --xtc-threshold 0.15 --dry-multiplier 0.8
    --dry-base 1.75 --dry-allowed-length 3 --dry-penalty-last-n -1 --dry-sequence-breaker none
    --repeat-penalty 1.1 --repeat-last-n -1 --presence-penalty 0.1 --frequency-penalty 0.1
    --logit-bias 15043-1 --samplers penalties;dry;top_n_sigma;top_k;top_p;min_p;xtc;temperature
    --seed 7 -n 12"""


def test_every_option_of_llama_cpps_is_taken_and_the_seed_says_the_same_again() -> None:
    first, second = (chat("-p", QUESTION, *EVERY.split()) for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert len(first.stdout) > 2


def test_phrases_banned_by_options_and_files_do_not_appear(tmp_path: Path) -> None:
    file = tmp_path / "banned.txt"
    file.write_text("# known\n/capital\\s+of/\n")
    result = chat("-p", QUESTION, "--ban", "PARIS", "--ban-file", str(file), "-n", "16")
    assert result.returncode == 0
    assert result.stdout != PARIS
    assert "paris" not in result.stdout.lower() and "capital of" not in result.stdout.lower()
    assert " rewound for bans" in result.stderr


def test_an_expression_that_takes_too_long_is_reported_and_the_answer_is_whole() -> None:
    result = chat("-p", QUESTION, "--ban", r"/([a-z ]|[a-z ][a-z ])+\d/")
    assert (result.returncode, result.stdout) == (0, PARIS)
    assert "no longer banned because searching for it takes too long: /([a-z ]|" in result.stderr


def test_an_answer_follows_a_grammar_file_in_a_preset_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "franken-gguf").mkdir()
    (tmp_path / "franken-gguf" / "presets.yml").write_text("mine: {top_k: 1, temperature: 0.1}\n")
    grammar = tmp_path / "city.gbnf"
    grammar.write_text('root ::= ("Rome" | "Paris") "."\n')
    options = ("--preset", "mine", "--grammar-file", str(grammar))
    result = chat("-p", QUESTION, *options, XDG_CONFIG_HOME=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, "Paris.\n")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--grammar", "root ::= ?"), "Error: the grammar, line 1, column "),
        (("--ban", "/(/"), "Error: /(/: not a usable regular expression"),
        (("--preset", "wildest"), "Error: there is no preset 'wildest'; there are default, story"),
        (("--samplers", "heat"), "Error: there is no sampler 'heat'; there are penalties;"),
        (("--dry-penalty-last-n", "-2"), "Error: dry_penalty_last_n is -2; it must be from -1"),
    ],
)
def test_what_cannot_be_is_one_line(options: tuple[str, str], reason: str) -> None:
    result = chat("-p", QUESTION, *options)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(reason)
    assert result.stderr.count("\n") == 1
