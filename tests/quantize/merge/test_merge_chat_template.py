"""chat_template: the mixture talks by another template than its base model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.runner.cli import main
from support.bpe_tokenizers import CHATML, write_json
from support.conversions import converted, digest
from support.merges import make_dense, write_recipe

EXPERTS = [{"source_model": "poet"}, {"source_model": "cook"}]
KEYS = ("tokenizer.chat_template", "tokenizer.chat_template.tools", "tokenizer.chat_templates")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed)
    path = tmp_path / "base" / "tokenizer_config.json"
    names = ({"name": name, "template": f"{{{{ '{name}' }}}}"} for name in ("default", "tools"))
    write_json(path, json.loads(path.read_text()) | {"chat_template": list(names)})
    return tmp_path


def templates(recipe: Path) -> list[Any]:
    metadata = merge_source(recipe).metadata
    return [metadata[key].data if key in metadata else None for key in KEYS]


def test_without_one_the_bases_templates_stay(models: Path) -> None:
    recipe = write_recipe(models / "tales.yml", *EXPERTS)
    assert templates(recipe) == ["{{ 'default' }}", "{{ 'tools' }}", ["tools"]]


@pytest.mark.parametrize(
    ("said", "meant"), [("chatml", CHATML), ("{{ messages[0]['content'] }}",) * 2]
)
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_named_or_written_template_replaces_those_of_the_base(
    models: Path, said: str, meant: str, place: str
) -> None:
    if place == "chat_template.jinja":
        path = models / "base" / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        del settings["chat_template"]
        write_json(path, settings)
        (models / "base" / place).write_text("{{ 'default' }}")
        (models / "base" / "additional_chat_templates").mkdir()
        (models / "base" / "additional_chat_templates" / "tools.jinja").write_text("{{ 'tools' }}")
    recipe = write_recipe(models / "tales.yml", *EXPERTS, chat_template=said)
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert templates(recipe) == [meant, None, None]
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before
    folder = models / "out" / "tales"
    folder.parent.mkdir()
    assert CliRunner().invoke(main, ["merge", str(recipe), str(folder)]).exit_code == 0
    (one,), (other,) = (
        converted(source, models / out, ["Q8_0"]) for source, out in ((recipe, "a"), (folder, "b"))
    )
    assert read_header(one).text("tokenizer.chat_template") == meant
    assert digest(one) == digest(other)


@pytest.mark.parametrize("said", ["chat-ml", 7, ["chatml"], {"chatml": 1}, "{" * 70_000])
def test_a_value_that_is_not_a_template_is_refused(models: Path, said: object) -> None:
    with pytest.raises(
        MergeError, match=r"chat_template: .* is not a template; write chatml, or a"
    ):
        merge_source(write_recipe(models / "tales.yml", *EXPERTS, chat_template=said))


def test_a_model_that_is_a_pipe_is_not_waited_for(models: Path) -> None:
    os.mkfifo(models / "pipe")
    with pytest.raises(MergeError, match=r"pipe: neither a folder nor a file"):
        merge_source(write_recipe(models / "tales.yml", EXPERTS[0], {"source_model": "pipe"}))
