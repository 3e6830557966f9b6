"""llama.cpp is checked on this CPU before the first load: child processes die by real signals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli import main
from franken_gguf.runner.engine import cpu_check
from franken_gguf.runner.engine.backend import EngineError, loaded_model, log
from franken_gguf.runner.engine.cpu_check import Verdict, check, record_path
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.this_machine import this_machine
from franken_gguf.runner.engine.tiny_model import write_tiny_model
from franken_gguf.runner.engine.vocabulary import load_vocabulary
from support.models import demo_gguf, smollm2
from support.shapes import MIXTRAL_4X7B, sparse_model

needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="nothing dies by a signal on Windows"
)
SEGFAULT = Verdict(can_repack=False, fault="SIGSEGV")

# Counts its runs, and ends as it is told for each of its two ways to be called.
TRIAL = """\
import os, signal, sys, time
from pathlib import Path
folder, extra, plain = sys.argv[1:4]
with (Path(folder) / "runs").open("a") as runs:
    runs.write("+")
end = extra if sys.argv[-1] == "extra" else plain
assert Path(sys.argv[4]).stat().st_size > 100_000
if end.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, end))
time.sleep(60 if end == "hangs" else 0)
sys.exit("the model cannot be loaded" if end == "fails" else 0)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and the check not forced."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(cpu_check.VARIABLE, raising=False)
    return tmp_path / "cache" / "franken-gguf" / "cpu-check"


Ends = Callable[..., Callable[[], int]]


@pytest.fixture
def trial_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Let the trial end so with extra buffers and so without; returns what counts its runs."""

    def ends(extra: str, plain: str = "") -> Callable[[], int]:
        command = (sys.executable, "-c", TRIAL, str(tmp_path), extra, plain)
        monkeypatch.setattr(cpu_check, "TRIAL", command)
        runs = tmp_path / "runs"
        return lambda: len(runs.read_text()) if runs.exists() else 0

    return ends


def test_the_installed_llama_cpp_runs_with_its_extra_buffers_here(cache: Path) -> None:
    assert check() == Verdict()
    assert [json.loads(file.read_text()) for file in cache.iterdir()] == [asdict(Verdict())]


def test_the_tiny_models_weights_are_repacked(tmp_path: Path) -> None:
    if b"REPACK = 1" not in lib.llama_print_system_info():
        pytest.skip("this llama.cpp was built without repacking")
    write_tiny_model(tmp_path / "tiny.gguf")
    with (
        signals_held(),
        loaded_model(read_header(tmp_path / "tiny.gguf"), lib.llama_model_default_params()),
    ):
        assert {buffer.device for buffer in log.buffers} & {"CPU_REPACK", "AMX"}


@needs_signals
@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGILL", "SIGBUS", "SIGABRT"])
def test_a_crash_with_extra_buffers_only_is_reported_once(
    cache: Path, trial_ends: Ends, signal: str
) -> None:
    runs = trial_ends(signal)
    notices: list[str] = []
    verdicts = [check(notices.append) for _ in range(3)]
    assert verdicts == [Verdict(can_repack=False, fault=signal)] * 3
    assert runs() == 2
    assert notices == [
        f"llama.cpp crashes here with repacked weights ({signal}): models are loaded without, "
        "which slows down prompts; 'franken-gguf doctor' shows how to fix it"
    ]


@needs_signals
def test_a_crash_without_extra_buffers_too_is_one_line_with_the_command_that_helps(
    cache: Path, trial_ends: Ends
) -> None:
    trial_ends("SIGILL", "SIGILL")
    for _ in range(2):  # made, and remembered
        with pytest.raises(EngineError) as caught:
            this_machine()
        text = str(caught.value)
        assert "llama.cpp crashes on this CPU (SIGILL)" in text
        assert text.endswith(
            "pip install --force-reinstall --no-cache-dir "
            "--no-binary llama-cpp-python llama-cpp-python"
        )
        assert "\n" not in text


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("fails", "the model cannot be loaded"),
        pytest.param("SIGKILL", "the check was ended by signal SIGKILL", marks=needs_signals),
        pytest.param("SIGINT", "the check was ended by signal SIGINT", marks=needs_signals),
    ],
)
def test_a_failure_other_than_a_crash_gives_no_verdict_and_is_not_cached(
    cache: Path, trial_ends: Ends, end: str, reason: str
) -> None:
    runs = trial_ends(end)
    for n in (1, 2):
        verdict = check()
        assert verdict.can_repack and verdict.can_run
        assert reason in verdict.unchecked
        assert runs() == n
    assert not cache.exists()


@needs_signals
def test_a_crash_counts_even_if_the_second_trial_is_inconclusive(
    cache: Path, trial_ends: Ends
) -> None:
    trial_ends("SIGSEGV", "fails")
    verdict = check()
    assert (verdict.can_repack, verdict.can_run, verdict.fault) == (False, True, "SIGSEGV")
    assert "the model cannot be loaded" in verdict.unchecked
    assert not cache.exists()


def test_a_trial_that_hangs_decides_nothing(
    cache: Path, trial_ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_ends("hangs")
    monkeypatch.setattr(cpu_check, "PATIENCE_SECONDS", 0.5)
    assert "timed out" in check().unchecked


@needs_signals
def test_a_verdict_is_remembered_for_its_build_and_its_cpu(
    cache: Path, trial_ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_ends("SIGSEGV")
    assert check() == SEGFAULT
    runs = trial_ends("")
    assert check() == SEGFAULT
    assert runs() == 2

    libraries = tmp_path / "lib"
    libraries.mkdir()
    (libraries / "libllama.so").write_bytes(b"one build")
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(libraries))
    assert check() == Verdict()
    os.utime(libraries / "libllama.so", ns=(0, 0))
    assert check() == Verdict()
    assert runs() == 4
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH")
    assert check() == SEGFAULT
    assert len(list(cache.iterdir())) == 3


def test_a_cpu_is_identified_by_its_name_and_flags_not_by_its_clock(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"

    def path(name: str, flags: str, mhz: str) -> Path:
        core = f"processor\t: {{}}\nmodel name\t: {name}\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n"
        cpuinfo.write_text(core.format(0) + "\n" + core.format(1))
        return record_path(cpuinfo)

    first = path("Xeon", "avx2 amx_tile", "2000")
    assert path("Xeon", "avx2 amx_tile", "2100") == first
    assert path("Xeon", "avx2", "2000") != first
    assert path("EPYC", "avx2 amx_tile", "2000") != first
    assert record_path(tmp_path / "missing") != first


@needs_signals
@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"can_repack": true, "can_run"',
        b"[]",
        b"{}x",
        b'{"can_repack": 1, "can_run": true, "fault": "", "unchecked": ""}',
        b'{"can_repack": true, "can_run": true, "fault": [], "unchecked": ""}',
        b'{"can_repack": true, "can_run": true, "fault": "", "unchecked": "so it was"}',
        b'{"unknown": true}',
        b"\xff\xfe",
        b"[" * 4096,
    ],
)
def test_a_damaged_record_means_another_check(
    cache: Path, trial_ends: Ends, damaged: bytes
) -> None:
    trial_ends("SIGSEGV")
    record = record_path()
    record.parent.mkdir(parents=True)
    record.write_bytes(damaged)
    assert check() == SEGFAULT
    assert json.loads(record.read_text()) == asdict(SEGFAULT)


def test_a_record_that_is_a_folder_means_a_check_each_time(cache: Path, trial_ends: Ends) -> None:
    runs = trial_ends("")
    record_path().mkdir(parents=True)
    assert [check(), check()] == [Verdict()] * 2
    assert runs() == 2
    assert list(cache.iterdir()) == [record_path()]


def test_a_cache_folder_that_cannot_be_written_means_a_check_each_time(
    tmp_path: Path, trial_ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    runs = trial_ends("")
    assert [check(), check()] == [Verdict()] * 2
    assert runs() == 2


@pytest.mark.parametrize("forced", ["on", "off"])
def test_the_variable_replaces_the_check(
    cache: Path, trial_ends: Ends, monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    runs = trial_ends("SIGSEGV", "SIGSEGV")
    monkeypatch.setenv("FRANKEN_GGUF_EXTRA_BUFFERS", forced)
    assert this_machine().can_repack == (forced == "on")
    assert runs() == 0
    assert not cache.exists()


def test_another_value_of_the_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRANKEN_GGUF_EXTRA_BUFFERS", "maybe")
    with pytest.raises(EngineError, match=r"^FRANKEN_GGUF_EXTRA_BUFFERS=maybe: give on or off$"):
        check()


@needs_signals
def test_a_model_is_loaded_without_repacked_weights_if_they_crash(
    cache: Path, trial_ends: Ends
) -> None:
    trial_ends("SIGSEGV")
    notices: list[str] = []
    options = LoadOptions(n_ctx=256, n_gpu_layers=0)
    with Engine(read_header(demo_gguf("Q4_K_M")), options, on_notice=notices.append) as engine:
        devices = {buffer.device for buffer in engine.buffers if buffer.holds == "model"}
    assert devices == {"CPU_Mapped"}
    assert [notice for notice in notices if "SIGSEGV" in notice] == notices[:1]


def test_nothing_is_tried_for_a_machine_that_is_not_here_or_for_a_vocabulary(
    cache: Path, trial_ends: Ends, tmp_path: Path
) -> None:
    runs = trial_ends("")
    model = sparse_model(tmp_path / "4x7b.gguf", **MIXTRAL_4X7B)
    elsewhere = [str(model), "--vram", "8GiB", "--ram", "16GiB"]
    assert CliRunner().invoke(main, ["plan", *elsewhere]).exit_code == 0
    with load_vocabulary(smollm2()) as words:
        assert words.size == 49152
    assert runs() == 0
    assert CliRunner().invoke(main, ["plan", str(model)]).exit_code == 0
    assert runs() == 1


@needs_signals
def test_plan_reports_on_standard_error_what_crashes(cache: Path, trial_ends: Ends) -> None:
    trial_ends("SIGSEGV")
    result = CliRunner().invoke(main, ["plan", str(smollm2()), "--json"])
    assert json.loads(result.stdout)["fits"] in (True, False)
    assert result.stderr.startswith("llama.cpp crashes here with repacked weights (SIGSEGV)")


@needs_signals
def test_doctor_survives_a_llama_cpp_that_crashes_and_shows_the_command(
    cache: Path, trial_ends: Ends
) -> None:
    trial_ends("SIGILL", "SIGILL")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "CPU check crashes (SIGILL): llama.cpp may have been built for another CPU" in shown
    document = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert document["cpu_check"] == asdict(Verdict(can_repack=False, can_run=False, fault="SIGILL"))
    assert document["devices"] == []
    assert f"  {document['rebuild']}\n" in result.stdout
