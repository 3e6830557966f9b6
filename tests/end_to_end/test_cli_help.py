"""`--help` and wrong words: what somebody sees who does not know the commands yet."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from franken_gguf.runner.cli import main
from franken_gguf.runner.sampling.settings import Sampling

SETTINGS = {**main.context_settings, "info_name": "franken-gguf"}
TOP = click.Context(main, **SETTINGS)
VERBS = {name: main.get_command(TOP, name) for name in main.list_commands(TOP)}
# Their help shows no default: they change nothing unless they are given.
WITHOUT_DEFAULT = {
    "allowed_hosts",
    "api_key_file",
    "ban_files",
    "bans",
    "characters",
    "csv_file",
    "grammar",
    "grammar_file",
    "imatrix_file",
    "imported",
    "json_file",
    "logit_bias",
    "lorebooks",
    "n_cpu_moe",
    "name",
    "origins",
    "overrides",
    "preset",
    "prompt",
    "report",
    "report_file",
    "rpc",
    "second_moments",
    "second_moments_file",
    "source",
    "ssl_cert_file",
    "ssl_key_file",
    "target_bits",
    "target_sizes",
    "tensor_types",
    "text",
}


def shown(verb: str = "", columns: int = 80) -> str:
    """The help of a verb, or of the program, in a terminal of this many columns."""
    if not verb:
        return click.Context(main, **SETTINGS, terminal_width=columns - 2).get_help()
    command = VERBS[verb]
    assert command is not None
    return click.Context(command, TOP, verb, terminal_width=columns - 2).get_help()


def options(verb: str) -> list[tuple[click.Option, str]]:
    """A verb's options with their help."""
    command = VERBS[verb]
    assert command is not None
    context = click.Context(command, TOP, verb)
    found = [one for one in command.params if isinstance(one, click.Option)]
    return [(one, (one.get_help_record(context) or ("", ""))[1]) for one in found]


def test_chat_lists_its_options_under_headings() -> None:
    assert re.findall(r"(?m)^([A-Z].*):$", shown("chat")) == [
        "Prompt and output",
        "Model and memory",
        "Context beyond training",
        "Sampling",
        "Story",
        "Session",
        "Other options",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_sentence(verb: str) -> None:
    found = options(verb)
    assert found
    for option, text in found:
        assert re.fullmatch(r"[A-Z/].*\.(  \[default: .+\])?", text), option.name


def test_every_option_that_has_a_default_shows_it() -> None:
    silent = {
        option.name
        for verb in VERBS
        for option, text in options(verb)
        if not (option.is_flag or "[default: " in text)
    }
    # compare's -q belongs to --source; convert's has a default.
    assert silent == WITHOUT_DEFAULT | {"types"}


def test_the_sampling_defaults_are_the_engines() -> None:
    text = " ".join(shown("chat", 120).split())
    assert Sampling().temperature == 0.8
    assert "--temp, --temperature N Temperature: higher is more varied;" in text
    assert "the most likely token. [default: the model file's, else 0.8]" in text
    assert "1 keeps all. [default: the model file's, else 0.95]" in text
    assert "DRY: longest passage in tokens that may be repeated freely. [default: 2]" in text


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_no_line_is_wider_than_the_terminal(verb: str, columns: int) -> None:
    lines = shown(verb, columns).splitlines()
    assert max(map(len, lines)) <= columns - 2


def test_the_list_of_commands_shows_whole_sentences() -> None:
    assert "..." not in shown(columns=60).split("Commands:")[1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("konvert",), "Error: no command 'konvert'; did you mean convert?"),
        (("chta", "x.gguf"), "Error: no command 'chta'; did you mean chat?"),
        (
            ("frobnicate",),
            f"Error: no command 'frobnicate'; the commands are {', '.join(VERBS)}",
        ),
        (("a\x1b[2J",), f"Error: no command 'a\\\\x1b[2J'; the commands are {', '.join(VERBS)}"),
    ],
)
def test_a_misspelt_name_suggests_the_nearest_one(words: tuple[str, ...], line: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(line)


def test_a_misspelt_option_suggests_the_nearest_one() -> None:
    result = CliRunner().invoke(main, ["chat", "x.gguf", "--min-pp", "1"])
    assert result.exit_code == 2
    assert re.search(r"Did you mean '?--min-p'?\?$", result.stderr)


@pytest.mark.parametrize("words", [["chat", "--help"], ["plan", "--help"]])
def test_help_does_not_wait_for_llama_cpp(words: list[str]) -> None:
    code = (
        f"import sys; from franken_gguf.runner.cli import main; main({words}, "
        "standalone_mode=False); assert 'llama_cpp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
