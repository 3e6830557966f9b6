"""Every verb takes a model by its name on the Hub, from its cache or fetched when asked to."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli import main
from franken_gguf.runner.terminal.text import size
from support.chat_command import PARIS, QUESTION, chat
from support.hub import Hub, hub, in_cache
from support.merges import make_adapter, make_dense, write_recipe
from support.models import smollm2
from support.servers import serving
from support.terminals import CTRL_C, ENTER, Terminal

NOWHERE = "http://127.0.0.1:9"
GGUF = "hf:org/tales-GGUF/tales-Q4_1.gguf"
TAKES_A_MODEL = ("model", "models", "source", "recipe")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a machine without a network."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def stand_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


@pytest.fixture(scope="module")
def gguf_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a GGUF file of a model that runs."""
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "files").mkdir()
    (folder / "files" / "tales-Q4_1.gguf").symlink_to(smollm2())
    in_cache(folder / "home", "org/tales-GGUF", folder / "files")
    return folder / "home"


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def done(*words: object) -> Result:
    result = franken(*words)
    assert result.exit_code == 0, result.output
    return result


def test_every_verb_that_takes_a_model_can_fetch_it() -> None:
    context = click.Context(main)
    takes, fetches = set(), set()
    for verb in main.list_commands(context):
        command = main.get_command(context, verb)
        assert command
        if any(
            isinstance(one, click.Argument) and one.name in TAKES_A_MODEL for one in command.params
        ):
            takes.add(verb)
        if any(one.name == "download" for one in command.params):
            fetches.add(verb)
    assert fetches == takes > {"chat", "convert", "merge", "plan"}


@pytest.mark.parametrize("name", ["org/tales", "org/tales@v1"])
def test_a_name_in_the_cache_converts_to_the_bytes_of_a_folder_so_called(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = make_dense(tmp_path / "tales")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    in_cache(home, "org/tales", folder, revision=name.partition("@")[2] or "main")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done("convert", folder, "-q", "Q8_0", "-o", tmp_path / "by folder")
    done("convert", name, "-q", "Q8_0", "-o", tmp_path / "by name")
    written = [tmp_path / f"by {what}" / "tales-Q8_0.gguf" for what in ("folder", "name")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_recipe_of_names_makes_the_bytes_of_a_recipe_of_folders(
    stand_in: Hub, tmp_path: Path
) -> None:
    for seed, name in enumerate(("base", "poet")):
        make_dense(tmp_path / name, seed)
        stand_in.add(f"org/{name}", tmp_path / name, branches=("main", "v1"))
    done("convert", tmp_path / "poet", "-q", "F16", "-o", tmp_path / "gguf")
    stand_in.add("org/GGUF", tmp_path / "gguf")
    modules = {f"model.layers.{layer}.mlp.up_proj": (96, 64) for layer in (0, 1)}
    make_adapter(tmp_path / "adapter", modules)
    stand_in.add("org/adapter", tmp_path / "adapter")
    local = ["poet", "gguf/poet-F16.gguf", "base+adapter"]
    named = ["org/poet@v1", "hf:org/GGUF/poet-F16.gguf", "org/base+org/adapter"]
    written = []
    for folder, base, sources in (("a", "base", local), ("b", "org/base", named)):
        (tmp_path / folder).mkdir()
        experts = [{"source_model": source} for source in sources]
        recipe = write_recipe(tmp_path / folder / "tales.yml", *experts, base_model=base)
        if folder == "a":
            recipe = recipe.rename(tmp_path / "tales.yml")
        done("convert", recipe, "-q", "Q8_0", "-o", tmp_path / folder, "--download")
        written.append((tmp_path / folder / "tales-Q8_0.gguf").read_bytes())
    assert written[0] == written[1]
    stand_in.requests.clear()
    done("merge", tmp_path / "b" / "tales.yml", tmp_path / "merged")
    assert stand_in.requests == []
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "layers is from `base`" in card
    assert "- `poet`\n- `poet-F16.gguf`\n- `base` + `adapter`\n" in card


def test_a_recipe_whose_models_are_not_here_says_how_to_fetch_them(
    home: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(
        tmp_path / "tales.yml",
        {"source_model": "org/poet"},
        {"source_model": "org/cook"},
        base_model="org/base",
    )
    result = franken("convert", recipe)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {recipe}: experts[0]: source_model: 'org/poet': no such folder or file, and not "
        "in the Hugging Face cache; add --download to fetch it\n",
    )


def test_a_name_that_is_nowhere_says_how_to_fetch_it(home: Path) -> None:
    result = franken("inspect", "org/tales")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: org/tales: no such file or folder, and not in the Hugging Face cache; add "
        f"--download to fetch it from {NOWHERE}\n",
    )
    assert not home.exists()


def test_a_path_that_is_not_a_name_is_reported_as_a_path(home: Path) -> None:
    result = franken("convert", "./org/tales")
    assert (result.exit_code, result.stderr) == (1, "Error: org/tales: no such file or folder\n")


def test_a_folder_of_that_name_wins(
    stand_in: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dense(tmp_path / "org" / "tales")
    monkeypatch.chdir(tmp_path)
    done("convert", "org/tales", "--download", "-q", "Q8_0")
    assert stand_in.requests == []


def test_a_download_shows_the_license_before_anything_comes(stand_in: Hub, tmp_path: Path) -> None:
    repository = stand_in.add("org/tales", make_dense(tmp_path / "tales"), license="llama3")
    result = done("convert", "org/tales", "--download", "-q", "Q8_0", "-o", tmp_path)
    total = size(sum(map(len, repository.files.values())))
    assert result.stderr.startswith(
        f"org/tales: license llama3; downloading 4 files, {total}, from {stand_in.address}\n"
    )


def test_what_a_server_says_is_shown_without_control_characters(
    stand_in: Hub, tmp_path: Path
) -> None:
    stand_in.add("org/tales", make_dense(tmp_path / "tales"), license="\x1b[2Jmine")
    result = done("convert", "org/tales", "--download", "-q", "Q8_0", "-o", tmp_path)
    assert "\x1b" not in result.output
    assert "license \\x1b[2Jmine; " in result.stderr


def test_when_the_hub_is_away_what_is_in_the_cache_will_do(home: Path, tmp_path: Path) -> None:
    in_cache(home, "org/tales", make_dense(tmp_path / "tales"))
    result = done("convert", "org/tales", "--download", "-q", "Q8_0", "-o", tmp_path)
    assert result.stderr.startswith(
        f"org/tales: downloading from {NOWHERE} failed ([Errno 111] Connection refused); run the "
        "same command to resume; using what is in the cache\n"
    )


def test_without_the_library_a_line_says_how_to_install_it(
    stand_in: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = franken("inspect", "org/tales", "--download")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: org/tales: downloading needs huggingface_hub; install it with pip install "
        "'franken-gguf[hub]'\n",
    )
    assert stand_in.requests == []


def test_a_gguf_file_in_the_cache_is_inspected_planned_answered_and_calibrated(
    gguf_home: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(gguf_home))
    monkeypatch.chdir(tmp_path)
    shown = done("inspect", GGUF).stdout
    assert "Q4_1 x" in shown
    assert shown == done("inspect", "org/tales-GGUF").stdout
    assert "tales-Q4_1.gguf" in done("plan", GGUF, "--vram", "0", "--ram", "8GiB").stdout
    quick = ("-t", "1", "-ngl", "0", "-c", "64")
    answer = chat("-p", QUESTION, model=Path(GGUF))
    assert (answer.returncode, answer.stdout) == (0, PARIS)
    (tmp_path / "text.txt").write_text("Once upon a time there was a lighthouse. " * 40)
    done("imatrix", GGUF, *quick, "--text", "text.txt", "--chunks", "1")
    assert (tmp_path / "tales-Q4_1-imatrix.gguf").is_file()


def test_a_checkpoint_is_not_a_model_to_run(home: Path, tmp_path: Path) -> None:
    in_cache(home, "org/tales", make_dense(tmp_path / "tales"))
    result = franken("plan", "org/tales")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: org/tales: is a checkpoint; convert it first: franken-gguf convert org/tales\n",
    )


def test_a_gguf_file_in_the_cache_is_served(
    gguf_home: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(gguf_home))
    with serving(tmp_path, model=Path(GGUF)) as server:
        assert server.get("/v1/models")["data"][0]["id"] == "tales-Q4_1"


def test_every_model_of_a_comparison_can_be_a_name(
    gguf_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(gguf_home))
    (file,) = gguf_home.rglob("tales-Q4_1.gguf")
    for words in ((GGUF, "org/tales-GGUF"), (GGUF, file, "--baseline", GGUF)):
        result = franken("compare", *words)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: {file}: ")
    for option in ("--baseline", "--source"):
        result = franken("compare", option, "org/lost", GGUF)
        assert result.stderr.startswith("Error: org/lost: no such file or folder, and not in ")


def test_at_a_terminal_a_question_comes_first_and_no_is_no(stand_in: Hub) -> None:
    stand_in.add("org/tales", {"tales.gguf": b"GGUF"})
    with Terminal("inspect", "org/tales") as terminal:
        place = re.escape(stand_in.address)
        terminal.wait_for(rf"not in the Hugging Face cache\. Download from {place}\? \[y/N\]")
        assert stand_in.requests == []
        terminal.type(ENTER)
        assert terminal.ended() == 1
        assert "add --download to fetch it" in terminal.text
    assert stand_in.requests == []


def test_ctrl_c_in_a_download_keeps_what_has_come(stand_in: Hub, home: Path) -> None:
    model = smollm2().read_bytes()
    stand_in.add("org/tales", {"tales.gguf": model})
    stand_in.pause_after = 60_000_000
    with Terminal("inspect", "org/tales") as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.type("y" + ENTER)
        terminal.wait_for(r"license apache-2\.0; downloading 1 file, 93\.\d MiB")
        terminal.wait_for(r"tales\.gguf .*50\.0/9\d\.\d MiB")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
        assert "Interrupted; run the same command to resume." in terminal.text
    stand_in.pause_after = None
    done("inspect", "org/tales", "--download")
    assert stand_in.ranges() == ["", "bytes=52428800-"]
    (found,) = home.rglob("tales.gguf")
    assert found.read_bytes() == model
    assert read_header(found).text("general.architecture") == "llama"
