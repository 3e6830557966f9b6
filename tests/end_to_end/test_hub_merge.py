"""From models on the Hub to a mixture that talks, in two commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from support.chat_command import chat
from support.family_merges import MODELS, write_family_recipe
from support.hub import hub
from support.merges import run


def test_a_recipe_of_qwen3_models_on_the_hub_is_converted_and_then_talks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = [{"source_model": f"org/{name}"} for name in ("poet", "cook")]
    recipe = write_family_recipe(tmp_path, "qwen3", base_model="org/base", experts=experts)
    with hub() as stand_in:
        for name in MODELS:
            stand_in.add(f"org/{name}", tmp_path / name)
        monkeypatch.setenv("HF_ENDPOINT", stand_in.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        made = run("convert", recipe, "--download", "-q", "Q8_0", "-o", tmp_path / "out")
    assert made.exit_code == 0, made.output
    assert stand_in.fetched().count("model.safetensors") == len(MODELS)
    (path,) = (tmp_path / "out").iterdir()
    assert read_header(path).text("general.architecture") == "qwen3moe"
    talk = chat("-p", "Tell me about the moon", "-n", "8", model=path)
    assert talk.returncode == 0, talk.stderr
    assert talk.stdout.strip()
