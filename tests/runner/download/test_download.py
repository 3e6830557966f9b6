"""Models are fetched from a stand-in for the Hub by the real huggingface_hub, and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import find_cached, repository_folder
from franken_gguf.quantize.hub.hub_name import HubName, hub_name
from franken_gguf.runner.download.repository import look_up
from support.downloads import FILES, GGUF, NAME, NEEDED, PIECE, WEIGHTS, fetch
from support.hub import Hub, sha256


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def half_files() -> list[int]:
    """The sizes of files that are not complete yet."""
    blobs = repository_folder(NAME) / "blobs"
    return [path.stat().st_size for path in blobs.glob("*.incomplete")]


def test_only_what_a_model_needs_is_fetched_and_it_is_the_same(stand_in: Hub) -> None:
    repository = stand_in.add("org/tales", FILES)
    found = fetch()
    assert found.name == repository.commit
    assert contents(found) == {name: FILES[name] for name in NEEDED}
    assert set(stand_in.fetched()) == NEEDED


def test_huggingface_hub_finds_in_its_cache_what_was_fetched(stand_in: Hub) -> None:
    stand_in.add("org/tales", {name: FILES[name] for name in NEEDED})
    found = fetch()
    cache = found.parents[2]
    offline = snapshot_download("org/tales", cache_dir=cache, local_files_only=True)
    assert Path(offline) == found


def test_what_is_there_is_not_fetched_again(stand_in: Hub) -> None:
    stand_in.add("org/tales", FILES)
    fetch()
    stand_in.requests.clear()
    fetch()
    asked = [request.path for request in stand_in.requests]
    assert asked == ["/api/models/org/tales/revision/main"]


def test_of_a_new_commit_only_what_has_changed_is_fetched(stand_in: Hub) -> None:
    repository = stand_in.add("org/tales", FILES)
    old = fetch()
    repository.files = FILES | {"config.json": b'{"new": true}'}
    stand_in.requests.clear()
    new = fetch()
    assert stand_in.fetched() == ["config.json"]
    assert (new / "config.json").read_bytes() == b'{"new": true}'
    assert (old / "config.json").read_bytes() == b"{}"


def test_a_revision_is_fetched_beside_the_main_branch(stand_in: Hub) -> None:
    repository = stand_in.add("org/tales", FILES, branches=("main", "refs/pr/1"))
    for text in ("org/tales@refs/pr/1", f"org/tales@{repository.commit}"):
        name = hub_name(text)
        assert name and fetch(name).name == repository.commit
    assert find_cached(NAME) is None


def test_an_interrupted_file_is_resumed_where_it_stopped(stand_in: Hub) -> None:
    stand_in.add("org/tales", FILES)
    seen = 0

    def interrupt(name: str, nbytes: int) -> None:
        nonlocal seen
        seen += nbytes if name == "model-1.safetensors" else 0
        if seen > 5 * PIECE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(report=interrupt)
    assert find_cached(NAME) is None
    assert half_files() == [5 * PIECE]
    stand_in.requests.clear()
    reported: dict[str, int] = {}

    def count(name: str, nbytes: int) -> None:
        reported[name] = reported.get(name, 0) + nbytes

    assert contents(fetch(report=count)) == {name: FILES[name] for name in NEEDED}
    assert stand_in.ranges() == [f"bytes={5 * PIECE}-", ""]
    assert reported["model-1.safetensors"] == len(WEIGHTS)
    assert half_files() == []


def test_a_connection_that_breaks_is_taken_up_again_by_ranges(stand_in: Hub) -> None:
    stand_in.add("org/tales", {"model.safetensors": WEIGHTS, "config.json": b"{}"})
    stand_in.cut_after = len(WEIGHTS) - 3 * PIECE
    assert (fetch() / "model.safetensors").read_bytes() == WEIGHTS
    assert stand_in.ranges() == ["", f"bytes={13 * PIECE}-"]


def test_a_server_without_ranges_sends_the_file_from_its_start(stand_in: Hub) -> None:
    stand_in.add("org/tales", {"model.safetensors": WEIGHTS, "config.json": b"{}"})
    stand_in.has_ranges = False
    part = repository_folder(NAME) / "blobs" / f"{sha256(WEIGHTS)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    reported = {"model.safetensors": 0, "config.json": 0}

    def count(name: str, nbytes: int) -> None:
        reported[name] += nbytes

    assert (fetch(report=count) / "model.safetensors").read_bytes() == WEIGHTS
    assert reported == {"model.safetensors": len(WEIGHTS), "config.json": 2}


def test_a_file_with_a_wrong_byte_never_gets_its_name(stand_in: Hub) -> None:
    stand_in.add("org/tales", FILES)
    stand_in.damaged = True
    with pytest.raises(HubError) as error:
        fetch()
    assert str(error.value) == (
        "org/tales: model-1.safetensors arrived damaged (its checksum is wrong); run the same "
        "command to fetch it again"
    )
    assert find_cached(NAME) is None
    assert half_files() == []
    assert not (repository_folder(NAME) / "blobs" / sha256(WEIGHTS)).exists()
    stand_in.damaged = False
    assert contents(fetch()) == {name: FILES[name] for name in NEEDED}


def test_a_server_that_sends_more_than_it_announced_is_stopped(stand_in: Hub) -> None:
    stand_in.add("org/tales", FILES)
    stand_in.endless = True
    with pytest.raises(HubError, match=r"sends more than the 1,048,576 bytes that it announced"):
        fetch()
    assert half_files() == [len(WEIGHTS)]


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    stand_in: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    stand_in.add("org/tales", FILES, token="hf_secret", is_private=True)
    fetch()
    by_server = {"stored": set[str](), "hub": set[str]()}
    for request in stand_in.requests:
        server = "stored" if request.path.startswith("/stored/") else "hub"
        by_server[server].add(request.token)
    assert by_server == {"stored": {""}, "hub": {"hf_secret"}}


def test_of_a_gguf_repository_only_the_named_file_is_fetched(stand_in: Hub) -> None:
    stand_in.add("org/tales", GGUF)
    found = fetch(HubName("org/tales", file="tales-Q8_0.gguf"), gguf=True)
    assert found.read_bytes() == b"eight"
    assert stand_in.fetched() == ["tales-Q8_0.gguf"]


def test_the_license_is_that_of_the_model_card(stand_in: Hub) -> None:
    repository = stand_in.add("org/tales", FILES)
    assert look_up(NAME).license == "apache-2.0"
    repository.license, repository.card = "other", {"license_name": "llama3"}
    assert look_up(NAME).license == "llama3"
    repository.license = ""
    assert look_up(NAME).license == ""
