"""imatrix --second-moments, then convert --second-moments: files, labels and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.open_source import open_source
from franken_gguf.runner.cli import main
from support.checkpoints import make_checkpoint
from support.imatrix_cases import write_text
from support.second_moments import write_made_up


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, its second moments, and a text."""
    folder = tmp_path_factory.mktemp("codes")
    checkpoint = make_checkpoint(folder / "tales", dtype="F16")
    write_made_up(folder / "moments.gguf", open_source(checkpoint))
    write_text(folder)
    return folder


def test_a_recorded_file_chooses_codes_and_the_output_says_so(folder: Path) -> None:
    made = franken(
        *("imatrix", folder / "tales", "--text", folder / "text.txt", "-c", "64", "--chunks", "2"),
        *("-t", "1", "-o", folder / "i.gguf", "--second-moments", folder / "m.gguf"),
    )
    assert made.exit_code == 0, made.output
    assert f"{folder / 'm.gguf'}    second moments" in made.stdout
    one = franken(
        *("convert", folder / "tales", "-q", "Q4_K_M", "-o", folder / "q4.gguf", "--threads", "1"),
        *("--imatrix", folder / "i.gguf", "--second-moments", folder / "m.gguf"),
    )
    assert one.exit_code == 0, one.output
    words = " ".join(one.stdout.split())
    assert "weights' codes chosen under second moments: not the bytes of llama-quantize" in words
    shown = franken("inspect", folder / "q4.gguf")
    assert "chosen under second moments (m.gguf), not the bytes" in " ".join(shown.stdout.split())


def test_without_the_option_nothing_is_said_about_codes(folder: Path) -> None:
    one = franken(
        *("convert", folder / "tales", "-q", "Q4_K_M", "-o", folder / "plain.gguf"),
        *("--threads", "1", "--json"),
    )
    (output,) = json.loads(one.stdout)["outputs"]
    assert output["refined_share"] == 0
    assert "second moments" not in franken("inspect", folder / "plain.gguf").stdout


def test_an_importance_matrix_in_its_place_is_one_line(folder: Path) -> None:
    wrong = franken(
        *("convert", folder / "tales", "-o", folder / "x.gguf"),
        *("--second-moments", folder / "tales" / "config.json"),
    )
    assert wrong.exit_code == 1
    assert "config.json: not a GGUF file" in wrong.stderr and "Traceback" not in wrong.stderr
    assert not (folder / "x.gguf").exists()
