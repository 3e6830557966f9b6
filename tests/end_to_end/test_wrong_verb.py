"""A file or folder of another kind than a verb takes: one line that names the right verb."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from franken_gguf.runner.cli import main

SLERP = """\
slices:
  - sources:
      - model: a
        layer_range: [0, 32]
      - model: b
        layer_range: [0, 32]
merge_method: slerp
base_model: a
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 1]
"""
METHOD = "slerp.yml: is a recipe for mergekit's merge_method: slerp, not for a mixture of experts; "


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("convert", "slerp.yml"), METHOD + "run mergekit-yaml slerp.yml FOLDER, then convert"),
        (("merge", "slerp.yml", "out"), METHOD + "run mergekit-yaml slerp.yml FOLDER, then"),
        (("convert", "dare.yaml"), "merge_method: dare_ties, not for a mixture of experts"),
        (("merge", "m.gguf", "out"), "m.gguf: is a GGUF file, not a recipe; chat and convert"),
        (("merge", "folder", "out"), "folder: is a folder, not a recipe; franken-gguf convert"),
        (
            ("chat", "folder"),
            "folder: is not a GGUF file; make one first: franken-gguf convert folder",
        ),
        (
            ("chat", "slerp.yml"),
            "is not a GGUF file; make one first: franken-gguf convert slerp.yml",
        ),
        (("chat", "ggufs"), "ggufs: is not a GGUF file; give one, such as ggufs/a.gguf"),
        (("convert", "ggufs"), "has no model.safetensors, but GGUF files; give one, such as ggufs"),
        (
            ("plan", "folder/model.safetensors"),
            "model.safetensors: is not a GGUF file; make one first: franken-gguf convert folder",
        ),
        (("fit", "folder/model.safetensors"), "is one file of a model; give its folder, folder"),
        (
            ("chat", "https://huggingface.co/org/name"),
            "https://huggingface.co/org/name: is an address; give the model's name on the Hub, as",
        ),
    ],
)
def test_what_a_verb_does_not_take_is_named_with_what_to_do(
    arguments: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slerp.yml").write_text(SLERP)
    Path("dare.yaml").write_text("models: []\nmerge_method: 'dare_ties'\n")
    Path("m.gguf").write_bytes(b"GGUF\3\0\0\0")
    Path("folder").mkdir()
    Path("folder/model.safetensors").touch()
    Path("ggufs").mkdir()
    Path("ggufs/a.gguf").touch()
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(main, [*arguments])
    assert reason in result.stderr
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("name", "verb"), [("quantize", "convert"), ("run", "chat")])
def test_what_other_programs_call_a_verb_is_recognized(name: str, verb: str) -> None:
    result = CliRunner().invoke(main, [name, "model.gguf"])
    assert result.stderr.splitlines()[-1] == f"Error: no command '{name}'; did you mean {verb}?"
    assert result.exit_code == 2
