"""convert --target-size: the best file of a number of bytes, and errors in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from filelock import FileLock
from gguf import GGUFReader

from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.tensor_types.type_presets import find_preset, find_type
from franken_gguf.runner.sensitivity.measured_source import locked
from support.checkpoints import make_checkpoint
from support.disks import mounted
from support.oracle import llama_quantize
from support.second_moments import write_made_up
from support.target_sizes import converted, franken, measured_folder

_NEED_A_TARGET = "--cpu-moe, --n-cpu-moe and --target-text need --target-size or --target-bpw"


def tensors(path: Path) -> dict[str, tuple[int, bytes]]:
    """Each tensor's type and bytes."""
    return {t.name: (int(t.tensor_type), t.data.tobytes()) for t in GGUFReader(path).tensors}


def measured(folder: Path) -> list[Path]:
    return sorted((folder / ".franken-gguf-sizes").glob("*.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured_folder(tmp_path_factory)


def test_one_pass_writes_quants_and_targets(folder: Path) -> None:
    assert {"tales-F16.gguf", "tales-5bpw.gguf"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("size", [1_500_000, 2_000_000, 2_345_678, 4_000_000])
def test_the_whole_file_is_at_most_that_large_and_nearly_as_large(folder: Path, size: int) -> None:
    output = converted(folder, "--target-size", size, "-o", folder)
    path = Path(output["path"])
    assert path == folder / f"tales-{size}.gguf"
    assert 0.98 * size < path.stat().st_size == output["bytes"] <= size


def test_a_preset_names_its_own_size_and_the_result_is_predicted_to_be_better(folder: Path) -> None:
    preset = converted(folder, "-q", "Q4_K_M", "-o", folder)
    output = converted(folder, "--target-size", "q4_k_m", "-o", folder)
    assert output["path"].endswith("tales-Q4_K_M-size.gguf")
    assert output["bytes"] <= preset["bytes"]
    dry = franken(folder / "tales", "--target-size", "q4_k_m", "--dry-run", "--json")
    document = json.loads(dry.stdout)
    points = {point["preset"]: point for point in document["frontier"]}
    for key in ("bytes", "predicted_kl_divergence", "tensor_type_options"):
        assert document["outputs"][0][key] == output[key]
    assert points["Q4_K_M"]["nbytes"] == preset["bytes"]
    assert points["Q4_K_M"]["of_target"] == output["predicted_kl_divergence"]
    assert all(point["of_target"] <= point["of_preset"] for point in points.values())


def test_what_chosen_codes_gain_is_measured_once_and_counts(folder: Path) -> None:
    moments = write_made_up(folder / "moments.gguf", open_source(folder / "tales"))
    plain = converted(folder, "--target-bpw", "5", "-o", folder)
    before = measured(folder)
    options = ("--target-bpw", "5", "--second-moments", moments, "-o", folder)
    chosen = converted(folder, *options)
    (gains,) = set(measured(folder)) - set(before)
    assert 0 < chosen["predicted_kl_divergence"] < plain["predicted_kl_divergence"]
    written = gains.stat().st_mtime_ns
    assert converted(folder, *options)["tensor_types"] == chosen["tensor_types"]
    assert gains.stat().st_mtime_ns == written


@pytest.mark.parametrize("size", range(1_500_000, 1_503_000, 600))
def test_the_keys_that_name_the_second_moments_count_in_the_size(folder: Path, size: int) -> None:
    moments = write_made_up(folder / f"{'m' * 100}.gguf", open_source(folder / "tales"))
    options = ("--second-moments", moments, "-o", folder / "keys.gguf")
    assert converted(folder, "--target-size", size, *options)["bytes"] <= size


def test_llama_quantize_makes_the_same_bytes_from_the_printed_types(folder: Path) -> None:
    output = converted(folder, "--target-bpw", "4.5", "-o", folder)
    pairs = [option.rpartition("=") for option in output["tensor_type_options"]]
    result = franken(folder / "tales", "--target-bpw", "4.5", "-o", folder, "--overwrite")
    assert all(option in result.stdout for option in output["tensor_type_options"])
    base = result.stdout.split("with llama-quantize, as ")[1].split(":")[0]
    theirs = llama_quantize(
        folder / "tales-F16.gguf",
        folder / "theirs.gguf",
        find_preset(base).file_type,
        [(pattern, find_type(name)) for pattern, _, name in pairs],
    )
    assert (folder / "tales-4.5bpw.gguf").stat().st_size == theirs.stat().st_size
    assert tensors(folder / "tales-4.5bpw.gguf") == tensors(theirs)


def test_a_second_size_measures_nothing(folder: Path) -> None:
    before = [path.read_bytes() for path in measured(folder)]
    assert before
    dry = franken(folder / "tales", "--target-bpw", "3", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert [path.read_bytes() for path in measured(folder)] == before
    assert "predicted KL divergence of tales-3bpw.gguf: " in dry.stdout
    assert "KL of --target-size" in dry.stdout


def test_a_report_plots_every_preset_and_the_best_of_its_size(folder: Path) -> None:
    page = folder / "sizes.html"
    words = (folder / "tales", "--target-bpw", "5", "--dry-run", "--report", page)
    result = franken(*words)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("<svg") == 1
    for name in ("Q8_0", "Q4_K_M", "Q2_K"):
        assert f">{name}</text>" in text
    for name in ("Q8_0", "Q4_K_S", "Q5_1"):
        assert f"<title>{name}: " in text
        assert f"<title>--target-size {name}: " in text
    again = franken(*words)
    assert again.exit_code == 1
    assert "sizes.html: already exists; choose another name, or add --overwrite" in again.output


def test_a_report_without_a_target_is_wrong_usage(folder: Path) -> None:
    result = franken(folder / "tales", "--dry-run", "--report", folder / "none.html")
    assert result.exit_code == 2
    assert "--report needs --dry-run and --target-size or --target-bpw" in result.output


def test_types_of_the_users_are_kept(folder: Path) -> None:
    output = converted(
        folder, "--target-bpw", "5", "--tensor-type", "attn_q=Q4_0", "-o", folder / "kept.gguf"
    )
    assert output["tensor_types"]["Q4_0"] >= 2
    assert output["tensor_type_options"][0] == "attn_q=Q4_0"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--target-size", "1KiB"), "--target-size 1KiB: the smallest file of this model has "),
        (("--target-size", "1GiB"), "--target-size 1GiB: is above the unquantized model's "),
        (("--target-size", "6GiBs"), "'6GiBs' is not a size; write 512MiB, 2G"),
        (("--target-size", "6"), "'6' is a number of bytes; write 6GiB"),
        (("--target-size", "Q4_K_X"), "unknown type 'Q4_K_X'; "),
        (("--cpu-moe",), _NEED_A_TARGET),
        (("--n-cpu-moe", "1"), _NEED_A_TARGET),
        (("-ncmoe", "0"), _NEED_A_TARGET),
        (
            ("--target-bpw", "5", "--cpu-moe", "--n-cpu-moe", "1"),
            "--cpu-moe is --n-cpu-moe for all layers; give one of them",
        ),
        (("--target-bpw", "5", "--n-cpu-moe", "-1"), "-1 is not in the range x>=0"),
        (("--target-bpw", "5", "--pure"), "--pure leaves no types to choose"),
    ],
)
def test_an_impossible_size_is_refused_in_one_line(
    folder: Path, words: tuple[str, ...], error: str
) -> None:
    result = franken(folder / "tales", *words, "-o", folder / "none.gguf")
    assert result.exit_code
    assert error in result.output.splitlines()[-1]
    assert not (folder / "none.gguf").exists()


def test_a_size_that_no_types_reach_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "tales", dtype="F16")
    result = franken(tmp_path / "tales", "--target-size", "1KiB", "-o", tmp_path)
    assert "--target-size 1KiB: the smallest file of this model has " in result.stderr
    assert not (tmp_path / ".franken-gguf-sizes").exists()


def test_the_smallest_size_that_the_refusal_names_is_the_smallest_file(folder: Path) -> None:
    error = franken(folder / "tales", "--target-size", "1KiB", "-o", folder).stderr
    found = re.search(r"smallest file of this model has ([\d,]+) bytes", error)
    assert found
    least = int(found[1].replace(",", ""))
    smallest = converted(folder, "--target-size", f"{least}B", "-o", folder / "least.gguf")
    assert smallest["bytes"] == least
    assert franken(folder / "tales", "--target-size", f"{least - 1}B", "-o", folder).exit_code == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"Too short.", "--target-text: a third of it has 0 tokens, but 24 are needed"),
        (b"\0\1\2" * 500, "is not a text"),
        (b"\xff\xfe" * 500, "not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_measured_on_is_refused(
    folder: Path, content: bytes, error: str
) -> None:
    text = folder / "text.txt"
    text.write_bytes(content)
    result = franken(
        *(folder / "tales", "--target-bpw", "5", "--target-text", text),
        *("-o", folder / "none.gguf"),
    )
    assert result.exit_code == 1
    assert error in result.output.splitlines()[-1]
    assert result.output.count("Error") == 1


def test_a_quantized_source_is_converted_with_a_warning_about_its_loss(folder: Path) -> None:
    quantized = folder / "tales-Q8_0.gguf"
    assert franken(folder / "tales", "-q", "Q8_0", "-o", quantized).exit_code == 0
    refused = franken(quantized, "--target-bpw", "5", "-o", folder / "r.gguf")
    assert refused.exit_code == 1
    assert "--allow-requantize" in refused.output.splitlines()[-1]
    result = franken(quantized, "--target-bpw", "5", "--allow-requantize", "-o", folder / "r.gguf")
    assert result.exit_code == 0, result.output
    assert "its own losses remain" in result.stderr


def test_a_second_run_waits_for_the_one_that_measures(folder: Path) -> None:
    first = measured(folder)[0].with_suffix(".lock")
    lock, lines = FileLock(first), list[str]()
    lock.acquire()

    def report(line: str) -> None:
        lines.append(line)
        lock.release()

    with locked(first, report):
        assert lines == ["another run is measuring this model; waiting for it"]


def test_a_full_disk_ends_the_measurement_in_one_line_and_keeps_it(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=11m") as disk:
        make_checkpoint(disk / "tales", dtype="F16")
        result = franken(disk / "tales", "--target-bpw", "5", "-o", tmp_path / "out.gguf")
        assert result.exit_code == 1
        line = result.output.splitlines()[-1]
        assert "No space left on device" in line or "bytes needed" in line
        assert not list(disk.glob(".franken-gguf-sizes/*.part"))
