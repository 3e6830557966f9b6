"""What cannot be fetched is one line each, whatever the server sends."""

from __future__ import annotations

import pytest

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_name import HubName
from franken_gguf.runner.download.fetch_files import fetch_files, missing
from franken_gguf.runner.download.repository import look_up
from franken_gguf.runner.download.wanted_files import wanted_files
from support.downloads import FILES, GGUF, NAME, fetch
from support.hub import Hub, StandIn


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
