"""AMX at set-up: the probe's verdict by real children, and the environment that leaves it out."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import amx
import pytest

OFF = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
WITH_AMX = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx512_vnni amx_bf16 amx_tile\n"
WITHOUT = "processor\t: 0\nmodel name\t: amx_tile\nflags\t\t: fpu avx2 no_amx_tiles\n"

needs_compiler = pytest.mark.skipif(not amx.cxx({}), reason="there is no C++ compiler here")
needs_signals = pytest.mark.skipif(os.name == "nt", reason="nothing dies by a signal on Windows")


def cpuinfo(folder: Path, text: str) -> Path:
    (folder / "cpuinfo").write_text(text)
    return folder / "cpuinfo"


def compiler_of(folder: Path, program: str) -> str:
    """A compiler, for CXX, that makes of any source a program which runs the shell's `program`."""
    script = folder / "compiler"
    script.write_text(
        'while [ "$1" != -o ]; do shift; done\n'
        f'printf \'#!/bin/sh\\n%s\\n\' {shlex.quote(program)} > "$2"\nchmod +x "$2"\n'
    )
    return f"sh {shlex.quote(str(script))}"


@pytest.mark.parametrize(("text", "listed"), [(WITH_AMX, True), (WITHOUT, False), ("", False)])
def test_amx_is_looked_for_among_the_cpus_flags(tmp_path: Path, text: str, listed: bool) -> None:
    assert amx.is_listed(cpuinfo(tmp_path, text)) == listed


def test_a_system_without_cpuinfo_lists_no_amx(tmp_path: Path) -> None:
    assert not amx.is_listed(tmp_path / "missing")


@needs_signals
@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("exit 0", ""),
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -ILL $$", "SIGILL"),
        ("echo the kernel refuses the permission; exit 1", "the kernel refuses the permission"),
        ("exit 2", "exit status 2"),
    ],
)
def test_a_probe_that_fails_reports_the_fault(tmp_path: Path, program: str, fault: str) -> None:
    environ = {"CXX": compiler_of(tmp_path, program)}
    assert amx.fault(environ, cpuinfo(tmp_path, WITH_AMX)) == fault
    assert amx.fault(environ, cpuinfo(tmp_path, WITHOUT)) == ""


def test_a_probe_that_cannot_be_compiled_is_a_fault(tmp_path: Path) -> None:
    found = amx.fault({"CXX": "false"}, cpuinfo(tmp_path, WITH_AMX))
    assert found == "its probe cannot be compiled"


def test_the_variable_overrides_the_probe(tmp_path: Path) -> None:
    broken = {"CXX": "false"}
    with_amx = cpuinfo(tmp_path, WITH_AMX)
    assert amx.fault(broken | {"FRANKEN_GGUF_AMX": "on"}, with_amx) == ""
    without = cpuinfo(tmp_path, WITHOUT)
    assert amx.fault({"FRANKEN_GGUF_AMX": "off"}, without) == "FRANKEN_GGUF_AMX=off"
    with pytest.raises(ValueError, match="FRANKEN_GGUF_AMX=no: must be on"):
        amx.fault({"FRANKEN_GGUF_AMX": "no"}, with_amx)


@needs_compiler
def test_the_real_probe_succeeds_without_amx() -> None:
    if not amx.can_leave_out(amx.cxx({})):
        pytest.skip("this compiler has no option that leaves AMX out")
    assert amx.probe_fault(amx.cxx({}), {"CXXFLAGS": "-mno-amx-int8"}) == ""


@needs_compiler
def test_the_real_probe_ends_as_foreseen_on_a_cpu_without_amx(tmp_path: Path) -> None:
    program = tmp_path / "probe"
    command = [*amx.cxx({}), "-O3", "-pthread", "-march=sapphirerapids", "-Werror", "-Wall"]
    compiled = subprocess.run(
        [*command, str(amx.SOURCE), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "sapphirerapids" in compiled.stderr:
        pytest.skip("this compiler knows no CPU with AMX")
    assert compiled.returncode == 0, compiled.stderr
    if amx.is_listed():
        pytest.skip("what comes of the probe on a CPU with AMX is for set-up to find out")
    assert amx.ending([str(program)]) in ("the kernel refuses the permission", "SIGILL")


@needs_compiler
def test_only_a_compiler_that_knows_the_flags_gets_them(tmp_path: Path) -> None:
    knows = subprocess.run(
        [*amx.cxx({}), *OFF.split(), "-fsyntax-only", "-x", "c++", os.devnull],
        capture_output=True,
        check=False,
    )
    assert amx.can_leave_out(amx.cxx({})) == (knows.returncode == 0)
    assert not amx.can_leave_out(["false"])
    assert not amx.can_leave_out([])


@needs_compiler
def test_the_flags_leave_amx_out_of_compiled_code() -> None:
    if not amx.can_leave_out(amx.cxx({})):
        pytest.skip("this compiler knows no AMX")
    macros = subprocess.run(
        [*amx.cxx({}), *OFF.split(), "-march=sapphirerapids", "-dM", "-E", "-x", "c++", os.devnull],
        capture_output=True,
        text=True,
        check=False,
    )
    if macros.returncode:
        pytest.skip("this compiler knows no CPU with AMX")
    assert "__AVX512F__" in macros.stdout
    assert "__AMX" not in macros.stdout


def test_flags_of_the_users_are_kept_and_pip_gets_a_cache_of_its_own(tmp_path: Path) -> None:
    environ = {"CXXFLAGS": "-g -O1", "PATH": "/bin", "PIP_CACHE_DIR": "/home/me/.cache/pip"}
    without = amx.environment_without(environ, tmp_path)
    assert without == {
        "CFLAGS": OFF,
        "CXXFLAGS": f"-g -O1 {OFF}",
        "PATH": "/bin",
        "PIP_CACHE_DIR": str(tmp_path),
    }
    assert amx.is_left_out(without)
    assert not amx.is_left_out(environ)


def test_pip_uses_the_cache_that_it_is_given(tmp_path: Path) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "PIP_NO_CACHE_DIR"}
    told = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"],
        env=amx.environment_without(environment, tmp_path / "without-amx"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(tmp_path / "without-amx")


def test_the_compiler_comes_from_cxx_or_else_from_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert amx.cxx({"CXX": "ccache 'my g++'"}) == ["ccache", "my g++"]
    assert amx.cxx({}) == [path for path in map(shutil.which, ("c++", "g++")) if path][:1]
    monkeypatch.setenv("PATH", "")
    assert amx.cxx({}) == []
