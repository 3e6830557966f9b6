"""Models are found in the Hugging Face Hub's cache, whatever wrote it, without a network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import cache_folder, find_cached, folder_name
from franken_gguf.quantize.hub.hub_name import HubName
from support.hub import hub, in_cache

NAME = HubName("org/tales")
VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tales"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    return folder


def gguf(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "gguf"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    ("set_to", "folder"),
    [
        ({}, "{home}/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "~/h"}, "{home}/h/hub"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/c"}, "/c"),
    ],
)
def test_the_cache_is_where_the_variables_of_huggingface_hub_have_it(
    monkeypatch: pytest.MonkeyPatch, set_to: dict[str, str], folder: str
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in set_to.items():
        monkeypatch.setenv(variable, value)
    assert str(cache_folder()) == folder.format(home=Path.home())


def test_a_checkpoint_is_found_by_branch_by_tag_and_by_commit(home: Path, checkpoint: Path) -> None:
    snapshot = in_cache(home, "org/tales", checkpoint)
    (snapshot.parent.parent / "refs" / "v1").write_text(snapshot.name)
    for revision in ("main", "v1", snapshot.name):
        assert find_cached(HubName("org/tales", revision)) == snapshot
    assert find_cached(HubName("org/tales", "v2")) is None
    assert find_cached(HubName("org/other")) is None


def test_a_cache_that_huggingface_hub_has_written_is_read(
    home: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub() as stand_in:
        repository = stand_in.add("org/tales", checkpoint)
        for name in repository.files:
            hf_hub_download(
                "org/tales", name, endpoint=stand_in.address, cache_dir=home / "hub", token=False
            )
    found = find_cached(NAME)
    assert found == home / "hub/models--org--tales/snapshots" / repository.commit
    assert found and (found / "config.json").read_text() == "config.json"


def test_a_checkpoint_without_all_shards_counts_as_missing(home: Path, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-1.safetensors")
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (checkpoint / "model.safetensors.index.json").write_text(index)
    in_cache(home, "org/tales", checkpoint)
    assert find_cached(NAME) is None
    (checkpoint / "model-2.safetensors").write_bytes(b"2")
    shutil.rmtree(home)
    snapshot = in_cache(home, "org/tales", checkpoint)
    assert find_cached(NAME) == snapshot
    (snapshot / "model-2.safetensors").resolve().unlink()
    assert find_cached(NAME) is None


def test_a_gguf_file_is_found_alone_or_by_its_name(home: Path, tmp_path: Path) -> None:
    snapshot = in_cache(home, "org/tales", gguf(tmp_path, "tales-Q8_0.gguf"))
    expected = snapshot / "tales-Q8_0.gguf"
    assert find_cached(NAME) == expected
    assert find_cached(NAME, gguf=True) == expected
    assert find_cached(HubName("org/tales", file="tales-Q8_0.gguf")) == expected
    assert find_cached(HubName("org/tales", file="tales-Q4_0.gguf")) is None


def test_a_split_gguf_is_found_once_all_parts_are_there(home: Path, tmp_path: Path) -> None:
    names = [f"Q8/tales-0000{number}-of-00002.gguf" for number in (1, 2)]
    in_cache(home, "org/tales", gguf(tmp_path, names[0]))
    assert find_cached(NAME) is None
    shutil.rmtree(home)
    assert find_cached(NAME) is None
    snapshot = in_cache(home, "org/tales", gguf(tmp_path, *names))
    assert find_cached(NAME) == snapshot / names[0]


def test_a_checkpoint_is_not_a_model_to_run(home: Path, checkpoint: Path) -> None:
    in_cache(home, "org/tales", checkpoint)
    assert find_cached(NAME, gguf=True) is None


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../../outside", "/"])
def test_a_link_that_leads_out_of_the_cache_is_refused(
    home: Path, checkpoint: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "outside").write_text("secret")
    snapshot = in_cache(home, "org/tales", checkpoint)
    (snapshot / "README.md").symlink_to(target)
    with pytest.raises(HubError) as error:
        find_cached(NAME)
    assert str(error.value) == (
        f"{snapshot / 'README.md'}: is a link that leads out of the cache; delete it"
    )


def test_a_link_to_itself_counts_as_missing(home: Path, checkpoint: Path) -> None:
    snapshot = in_cache(home, "org/tales", checkpoint)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("model.safetensors")
    assert find_cached(NAME) is None


def test_a_cache_that_is_itself_a_link_to_another_disk_is_read(
    home: Path, checkpoint: Path, tmp_path: Path
) -> None:
    in_cache(tmp_path / "disk", "org/tales", checkpoint)
    home.symlink_to(tmp_path / "disk")
    found = find_cached(NAME)
    assert found and found.is_relative_to(home)


@pytest.mark.parametrize("content", ["../../../elsewhere", "", "x" * 100, "\0", "\udc80"])
def test_a_reference_that_is_not_a_commit_names_nothing(
    home: Path, checkpoint: Path, content: str
) -> None:
    snapshot = in_cache(home, "org/tales", checkpoint)
    (home / "elsewhere").mkdir()
    (snapshot.parent.parent / "refs/main").write_bytes(os.fsencode(content))
    assert find_cached(NAME) is None


def test_a_folder_of_the_cache_is_called_by_its_models_name(home: Path, checkpoint: Path) -> None:
    snapshot = in_cache(home, "org/tales-7B", checkpoint)
    assert folder_name(snapshot) == "tales-7B"
    assert folder_name(snapshot / "a.gguf") == "a.gguf"
    assert folder_name(checkpoint) == "tales"
