"""Set-up: its progress lines, its explanations of failures, and an engine that crashes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import amx
import pytest
import setup_env
from setup_env import SetupError, build_environment, current_step, explain, make_engine_work

COMPILING = """\
  Building wheel for llama-cpp-python (pyproject.toml): started
  [41/193] /usr/bin/g++ -O3 -c llama-chat.cpp
  warning: something [1/2] of no interest
  [42/193] /usr/bin/g++ -O3 -c llama-context.cpp
  note: candidate function
"""


def test_the_heartbeat_names_the_file_being_compiled() -> None:
    assert current_step(COMPILING) == "compiling llama.cpp: file 42 of 193"


def test_after_compiling_the_heartbeat_names_the_next_step() -> None:
    log = COMPILING + "Installing collected packages: numpy, llama-cpp-python\n"
    assert current_step(log) == "Installing collected packages"


def test_before_the_first_known_line_a_heartbeat_still_appears() -> None:
    assert current_step("") == "working"


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage", "install one"),
        ("The virtual environment was not created: ensurepip is not available", "python3-venv"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("Failed to establish a new connection: NewConnectionError", "check the network"),
    ],
)
def test_a_known_failure_comes_with_its_fix(line: str, fix: str) -> None:
    text = explain(f"  {line}\nerror: failed-wheel-build-for-install\n")
    assert fix in text
    assert "\n" not in text


def test_an_unknown_failure_shows_the_end_of_the_log() -> None:
    text = explain("first\n" + "line\n" * 30 + "the last words\n")
    assert text.endswith("\n  | the last words")
    assert "first" not in text


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setup_env, "LOG", tmp_path / "setup.log")
    return tmp_path / "setup.log"


# A doctor that reports the fault it finds in a file, or dies by the signal of that name.
DOCTOR = """\
import json, os, signal, sys
fault = open(sys.argv[1]).read()
if fault.startswith("dies by "):
    os.kill(os.getpid(), getattr(signal, fault[8:]))
print(json.dumps({"cpu_check": {"fault": fault}}))
"""


def engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, after_rebuild: str = ""
) -> None:
    """An engine with this fault until it is compiled again; real child processes, of our own."""
    (folder / "fault").write_text(fault)
    write = f"open({str(folder / 'fault')!r}, 'w').write({after_rebuild!r})"
    flags = f"import os; print('CXXFLAGS', os.environ.get('CXXFLAGS')); {write}"
    monkeypatch.setattr(setup_env, "ROOT", folder)
    monkeypatch.setattr(setup_env, "CONSTRAINTS", [])
    monkeypatch.setattr(setup_env, "PIP", [sys.executable, "-c", flags])
    monkeypatch.setattr(setup_env, "DOCTOR", [sys.executable, "-c", DOCTOR, str(folder / "fault")])


def test_an_engine_that_works_is_left_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: Path,
) -> None:
    engine(tmp_path, monkeypatch, "")
    make_engine_work(dict(os.environ))
    assert capsys.readouterr().out == ""
    assert not log.exists()


@pytest.mark.skipif(os.name == "nt", reason="nothing dies by a signal on Windows")
@pytest.mark.parametrize("fault", ["SIGSEGV", "dies by SIGSEGV", "dies by SIGILL"])
def test_with_amx_an_engine_that_crashes_is_compiled_again_without_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: Path,
    fault: str,
) -> None:
    engine(tmp_path, monkeypatch, fault)
    monkeypatch.setattr(amx, "is_listed", lambda: True)
    monkeypatch.setattr(amx, "can_leave_out", lambda _: True)
    make_engine_work({**os.environ, "CXXFLAGS": "-g"})
    signal = fault.rpartition(" ")[2]
    assert capsys.readouterr().out == (
        f"set-up: llama.cpp crashes on this CPU ({signal}); recompiling it without pip's cache\n"
        f"set-up: AMX does not work on this machine ({signal}); compiling llama.cpp without it\n"
    )
    # pip compiles the wheel, then installs it.
    assert log.read_text() == 2 * "CXXFLAGS -g -mno-amx-tile -mno-amx-int8 -mno-amx-bf16\n"


def test_without_amx_an_engine_that_crashes_is_compiled_again_with_the_same_flags(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: Path,
) -> None:
    engine(tmp_path, monkeypatch, "SIGILL")
    monkeypatch.setattr(amx, "is_listed", lambda: False)
    make_engine_work({**os.environ, "CXXFLAGS": "-g"})
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert log.read_text() == 2 * "CXXFLAGS -g\n"


def test_an_engine_that_still_crashes_ends_set_up_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    engine(tmp_path, monkeypatch, "SIGILL", after_rebuild="SIGSEGV")
    monkeypatch.setattr(amx, "is_listed", lambda: False)
    with pytest.raises(SetupError) as caught:
        make_engine_work(dict(os.environ))
    text = str(caught.value)
    assert text.startswith("llama.cpp crashes on this CPU (SIGSEGV) even when compiled here")
    assert "CC=clang CXX=clang++ make" in text
    assert "\n" not in text


def test_a_doctor_that_fails_shows_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    log.touch()
    monkeypatch.setattr(
        setup_env, "DOCTOR", [sys.executable, "-c", "raise SystemExit('no such module')"]
    )
    with pytest.raises(SetupError, match="no such module"):
        make_engine_work(dict(os.environ))


def test_a_forced_verdict_reaches_the_flags_and_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(amx, "can_leave_out", lambda _: True)
    environ = build_environment({"FRANKEN_GGUF_AMX": "off", "CFLAGS": "-g"})
    assert environ["CFLAGS"] == "-g -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert environ["PIP_CACHE_DIR"] == str(setup_env.ROOT / ".cache" / "pip-without-amx")
    assert setup_env.wheels(environ) != setup_env.wheels({})
    assert capsys.readouterr().out == (
        "set-up: AMX does not work on this machine (FRANKEN_GGUF_AMX=off); "
        "compiling llama.cpp without it\n"
    )


def test_a_compiler_without_amx_gets_no_flags_about_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"FRANKEN_GGUF_AMX": "off", "CXX": "false"}
    assert build_environment(environ) == environ
    assert capsys.readouterr().out == ""


def test_an_unknown_verdict_is_an_error() -> None:
    with pytest.raises(SetupError, match="FRANKEN_GGUF_AMX=maybe"):
        build_environment({"FRANKEN_GGUF_AMX": "maybe"})
