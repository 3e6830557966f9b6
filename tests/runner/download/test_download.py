"""Models are fetched from a stand-in for the Hub by the real huggingface_hub, and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import find_cached, repository_folder
from franken_gguf.quantize.hub.hub_name import HubName, hub_name
from franken_gguf.runner.download.fetch_files import Report, fetch_files, missing
from franken_gguf.runner.download.repository import look_up
from franken_gguf.runner.download.wanted_files import wanted_files
from support.hub import Hub, StandIn, hub, sha256

NAME = HubName("org/tales")
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
PIECE = 1 << 16
FILES = {
    "README.md": b"# Tales",
    "config.json": b"{}",
    "model-1.safetensors": WEIGHTS,
    "model-2.safetensors": WEIGHTS[::-1],
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "consolidated.safetensors": b"the same once more",
    "modeling_tales.py": b"import os",
    "pytorch_model.bin": b"a pickle",
    "tokenizer.json": b'{"version": "1.0"}',
}
NEEDED = FILES.keys() - {"consolidated.safetensors", "modeling_tales.py", "pytorch_model.bin"}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub for this test, with a cache of its own; files are read in small pieces."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", PIECE)
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


def fetch(name: HubName = NAME, *, gguf: bool = False, report: Report | None = None) -> Path:
    """Fetch a model as the verbs do; its path in the cache."""
    repository = look_up(name)
    files = wanted_files(repository, gguf=gguf)
    fetch_files(repository, files, report or (lambda name, nbytes: None))
    found = find_cached(name, gguf=gguf)
    assert found
    return found


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


def refused(name: HubName = NAME, *, gguf: bool = False) -> str:
    with pytest.raises(HubError) as error:
        fetch(name, gguf=gguf)
    return str(error.value)


def test_refusals_of_the_hub_are_one_line_each(stand_in: Hub) -> None:
    address = stand_in.address
    assert refused() == (
        f"org/tales: not found at {address}; check the name, or set HF_TOKEN if it is private"
    )
    repository = stand_in.add("org/tales", FILES, token="hf_secret")
    assert refused() == (
        "org/tales: its authors want you to accept their terms first; do so at "
        f"{address}/org/tales, then set HF_TOKEN to your access token"
    )
    repository.is_private = True
    assert refused().startswith(f"org/tales: not found at {address}")
    repository.is_private, repository.token = False, ""
    assert refused(HubName("org/tales", "v9")) == (
        "org/tales@v9: has no revision 'v9'; check its spelling"
    )
    stand_in.status = 503
    assert refused() == f"org/tales: {address} answered with status 503; try again later"


def test_a_server_that_is_not_there_is_one_line(
    stand_in: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert refused() == (
        "org/tales: downloading from http://127.0.0.1:9 failed ([Errno 111] Connection refused); "
        "run the same command to resume"
    )


def test_offline_nothing_is_asked(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused() == "org/tales: HF_HUB_OFFLINE is set; unset it to download"
    assert stand_in.requests == []


GGUF = {"tales-Q4_0.gguf": b"four", "tales-Q8_0.gguf": b"eight", "README.md": b"#"}


def test_of_a_gguf_repository_only_the_named_file_is_fetched(stand_in: Hub) -> None:
    stand_in.add("org/tales", GGUF)
    found = fetch(HubName("org/tales", file="tales-Q8_0.gguf"), gguf=True)
    assert found.read_bytes() == b"eight"
    assert stand_in.fetched() == ["tales-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("files", "name", "gguf", "line"),
    [
        (FILES, NAME, True, "has no GGUF file; convert it first: franken-gguf convert org/tales"),
        (GGUF, NAME, False, "has 2 GGUF files; name one, as in hf:org/tales/tales-Q4_0.gguf"),
        (
            GGUF,
            HubName("org/tales", file="x.gguf"),
            True,
            "hf:org/tales/x.gguf: has no GGUF file 'x.gguf'",
        ),
        (
            GGUF,
            HubName("org/tales", quant="Q2_K"),
            False,
            "org/tales:Q2_K: has no GGUF file 'Q2_K'",
        ),
        (
            {"pytorch_model.bin": b"", "config.json": b"{}"},
            NAME,
            False,
            "has only pickled weights, which can run code when loaded; have them converted at "
            "https://huggingface.co/spaces/safetensors/convert",
        ),
        ({"README.md": b"#"}, NAME, False, "has neither safetensors nor a GGUF file"),
        (
            {name: data for name, data in FILES.items() if name != "model-2.safetensors"},
            NAME,
            False,
            "lacks model-2.safetensors, which its index lists",
        ),
        ({"t-00001-of-00002.gguf": b"1"}, NAME, True, "parts of t-00001-of-00002.gguf are missing"),
    ],
)
def test_a_repository_without_the_model_says_what_it_lacks(
    stand_in: Hub, files: dict[str, bytes], name: HubName, gguf: bool, line: str
) -> None:
    stand_in.add("org/tales", files)
    assert line in refused(name, gguf=gguf)
    assert not any(file.endswith((".safetensors", ".gguf")) for file in stand_in.fetched())


def test_names_and_figures_of_a_hostile_server_reach_no_path(stand_in: Hub) -> None:
    class Hostile(StandIn):
        def info(self) -> dict[str, object]:
            entries = super().info()["siblings"]
            entries[0]["rfilename"] = "../../../config.json"
            entries[1]["blobId"] = "../../../x"
            entries[2]["size"] = -5
            return super().info() | {"siblings": entries}

    files = {"config.json": b"{}", "tokenizer.json": b"{}", "merges.txt": b"x", "README.md": b"#"}
    stand_in.repositories["org/tales"] = Hostile(files)
    assert set(look_up(NAME).files) == {"README.md"}


def test_a_commit_that_is_a_path_is_refused(stand_in: Hub) -> None:
    class Hostile(StandIn):
        commit = "../../x"

    stand_in.repositories["org/tales"] = Hostile(FILES)
    assert refused() == f"org/tales: {stand_in.address} named no commit; is it a Hugging Face Hub?"


def test_the_license_is_that_of_the_model_card(stand_in: Hub) -> None:
    repository = stand_in.add("org/tales", FILES)
    assert look_up(NAME).license == "apache-2.0"
    repository.license, repository.card = "other", {"license_name": "llama3"}
    assert look_up(NAME).license == "llama3"
    repository.license = ""
    assert look_up(NAME).license == ""


def test_a_disk_that_is_too_small_is_noticed_first(
    stand_in: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.add("org/tales", FILES)
    repository = look_up(NAME)
    files = wanted_files(repository, gguf=False)
    total = sum(file.nbytes for file in missing(repository, files))

    class Full:
        free = total - 1

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Full)
    with pytest.raises(HubError, match=rf"{total:,} more bytes are needed in .*HF_HOME"):
        fetch_files(repository, files, lambda name, nbytes: None)
    assert not any(file.endswith(".safetensors") for file in stand_in.fetched())
