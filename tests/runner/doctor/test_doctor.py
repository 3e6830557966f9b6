"""doctor: the build, and one command for each GPU that it does not use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from franken_gguf.runner.cli import main
from franken_gguf.runner.common.hardware import peak_memory, total_memory
from franken_gguf.runner.common.ready_made_wheels import Driver, installer, ready_made
from franken_gguf.runner.common.rebuild_command import rebuild_command
from franken_gguf.runner.doctor.gpus import Facts, Unused, gather, unused_gpus
from franken_gguf.runner.doctor.report import checkup
from franken_gguf.runner.engine.cpu_check import Verdict
from franken_gguf.runner.ui import doctor_screen

PIP = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
WHEELS = (
    "pip install --force-reinstall --no-deps --index-url "
    'https://abetlen.github.io/llama-cpp-python/whl/{} "llama-cpp-python>=0.3.36"'
)
REBUILD = (
    "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
)
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
CPU_ONLY = Facts("Linux", "x86_64", backends=("CPU",), backends_with_device=("CPU",))
NVIDIA = replace(
    CPU_ONLY,
    display_vendors=("NVIDIA",),
    nvidia_gpus=("NVIDIA GeForce RTX 4060",),
    nvidia_driver=True,
    tools=("nvcc",),
)
# The layout that nvidia-smi prints, as a program: no GPU is needed to read it.
NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
*name*) echo "NVIDIA GeForce RTX 4060"; echo "NVIDIA GeForce GTX 1080" ;;
*compute_cap*) echo 8.9; echo 6.1 ;;
*) echo "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4   |" ;;
esac
"""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (CPU_ONLY, []),
        (NVIDIA, [Unused("NVIDIA GeForce RTX 4060", f'CMAKE_ARGS="-DGGML_CUDA=on" {PIP}')]),
        (
            replace(NVIDIA, driver=Driver((12, 4), 8.9), installer="uv pip install"),
            [
                Unused(
                    "NVIDIA GeForce RTX 4060",
                    'CMAKE_ARGS="-DGGML_CUDA=on" uv ' + PIP,
                    ready_made="uv " + WHEELS.format("cu124"),
                    ready_made_needs="CUDA 12's libcudart and libcublas",
                )
            ],
        ),
        (
            replace(NVIDIA, tools=(), nvidia_gpus=()),
            [Unused("NVIDIA GPU", f'CMAKE_ARGS="-DGGML_CUDA=on" {PIP}', "the CUDA toolkit (nvcc)")],
        ),
        (
            replace(NVIDIA, nvidia_gpus=(), nvidia_driver=False),
            [Unused("NVIDIA GPU", f'CMAKE_ARGS="-DGGML_CUDA=on" {PIP}', "NVIDIA's driver")],
        ),
        (
            replace(NVIDIA, system="Windows"),
            [Unused("NVIDIA GeForce RTX 4060", f'$env:CMAKE_ARGS="-DGGML_CUDA=on"; {PIP}')],
        ),
        (replace(NVIDIA, backends=("CPU", "CUDA"), backends_with_device=("CPU", "CUDA")), []),
        (replace(NVIDIA, backends=("CPU", "Vulkan"), backends_with_device=("CPU", "Vulkan")), []),
        (
            replace(NVIDIA, backends=("CPU", "CUDA")),
            [
                Unused(
                    "NVIDIA GeForce RTX 4060",
                    "",
                    "an answer from its driver: CUDA is built in and finds nothing",
                )
            ],
        ),
        (
            replace(CPU_ONLY, display_vendors=("AMD",), tools=("hipcc",)),
            [
                Unused(
                    "AMD GPU",
                    f'CMAKE_ARGS="-DGGML_HIP=on" {PIP}',
                    ready_made=WHEELS.format("rocm72"),
                    ready_made_needs="ROCm 7.2",
                )
            ],
        ),
        (
            replace(CPU_ONLY, display_vendors=("AMD",), tools=("glslc",)),
            [
                Unused(
                    "AMD GPU",
                    f'CMAKE_ARGS="-DGGML_VULKAN=on" {PIP}',
                    ready_made=WHEELS.format("vulkan"),
                )
            ],
        ),
        (
            replace(CPU_ONLY, display_vendors=("Intel",)),
            [
                Unused(
                    "Intel GPU",
                    f'CMAKE_ARGS="-DGGML_VULKAN=on" {PIP}',
                    "the Vulkan SDK (glslc and headers)",
                    ready_made=WHEELS.format("vulkan"),
                )
            ],
        ),
        (
            replace(CPU_ONLY, system="Darwin", machine="arm64"),
            [
                Unused(
                    "Apple silicon",
                    f'CMAKE_ARGS="-DGGML_METAL=on" {PIP}',
                    ready_made=WHEELS.format("metal"),
                )
            ],
        ),
        (
            Facts("Darwin", "arm64", ("CPU", "BLAS", "MTL"), ("CPU", "BLAS", "MTL")),
            [],
        ),
        (replace(CPU_ONLY, system="Darwin"), []),
        (
            replace(NVIDIA, display_vendors=("Intel", "NVIDIA"), tools=("nvcc", "glslc")),
            [
                Unused("NVIDIA GeForce RTX 4060", f'CMAKE_ARGS="-DGGML_CUDA=on" {PIP}'),
                Unused(
                    "Intel GPU",
                    f'CMAKE_ARGS="-DGGML_VULKAN=on" {PIP}',
                    ready_made=WHEELS.format("vulkan"),
                ),
            ],
        ),
    ],
)
def test_each_gpu_that_is_not_used_has_its_command(facts: Facts, expected: list[Unused]) -> None:
    assert unused_gpus(facts) == expected


@pytest.mark.parametrize(
    ("backend", "system", "machine", "driver", "wheel"),
    [
        ("CUDA", "Linux", "x86_64", Driver((11, 7), 8.6), ""),
        ("CUDA", "Linux", "x86_64", Driver((12, 0), 8.6), "cu118"),
        ("CUDA", "Linux", "x86_64", Driver((12, 9), 8.6), "cu125"),
        ("CUDA", "Linux", "x86_64", Driver((13, 1), 9.0), "cu130"),
        ("CUDA", "Linux", "x86_64", Driver((14, 0), 9.0), "cu132"),
        ("CUDA", "Linux", "x86_64", Driver((13, 0), 6.1), "cu125"),
        ("CUDA", "Windows", "AMD64", Driver((12, 3), 8.6), "cu118"),
        ("CUDA", "Linux", "x86_64", None, ""),
        ("CUDA", "Linux", "aarch64", Driver((13, 0), 9.0), ""),
        ("MTL", "Darwin", "arm64", None, "metal"),
        ("MTL", "Darwin", "x86_64", None, ""),
        ("ROCm", "Linux", "x86_64", None, "rocm72"),
        ("ROCm", "Windows", "AMD64", None, "hip-radeon"),
        ("Vulkan", "Windows", "AMD64", None, "vulkan"),
        ("CPU", "Linux", "x86_64", None, "cpu"),
        ("CPU", "Darwin", "arm64", None, "cpu"),
        ("SYCL", "Linux", "x86_64", None, ""),
    ],
)
def test_the_ready_made_wheel_is_the_newest_that_driver_and_gpu_run(
    backend: str, system: str, machine: str, driver: Driver | None, wheel: str
) -> None:
    assert ready_made(backend, system, machine, driver) == wheel


@pytest.mark.parametrize(
    ("mark", "system", "command"),
    [
        ("pyvenv.cfg", "Linux", "'/my env/bin/python' -m pip install"),
        ("pyvenv.cfg", "Windows", '& "/my env/bin/python" -m pip install'),
        ("pipx_metadata.json", "Linux", "pipx runpip franken-gguf install"),
        ("uv-receipt.toml", "Linux", "uv pip install --python '/my env/bin/python'"),
    ],
)
def test_the_command_installs_into_the_environment_that_doctor_runs_in(
    tmp_path: Path, mark: str, system: str, command: str
) -> None:
    (tmp_path / mark).touch()
    assert installer(tmp_path, "/my env/bin/python", system) == command


def test_nvidia_smi_reports_the_drivers_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    facts = gather(("CPU",), ("CPU",), tmp_path)
    assert facts.nvidia_gpus == ("NVIDIA GeForce RTX 4060", "NVIDIA GeForce GTX 1080")
    assert facts.driver == Driver((12, 4), 6.1)


def test_the_kernel_and_the_driver_tell_which_gpus_are_in_the_machine(tmp_path: Path) -> None:
    for card, vendor in (("card0", "0x8086"), ("card1", "0x10de"), ("card2", "0xffff")):
        device = tmp_path / "sys/class/drm" / card / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: 550\n")
    (tmp_path / "usr/local/cuda/bin").mkdir(parents=True)
    (tmp_path / "usr/local/cuda/bin/nvcc").touch()
    facts = gather(("CPU",), ("CPU",), tmp_path)
    assert facts.display_vendors == ("Intel", "NVIDIA")
    assert facts.nvidia_driver
    assert "nvcc" in facts.tools


def test_a_machine_without_graphics_shows_none(tmp_path: Path) -> None:
    assert gather(("CPU",), ("CPU",), tmp_path).display_vendors == ()


def test_a_containers_limit_is_its_memory(tmp_path: Path) -> None:
    assert total_memory(tmp_path) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("1000000\n")
    assert total_memory(tmp_path) == 1000000


def test_json_describes_the_real_build() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert "CPU" in document["backends"]
    (cpu,) = (device for device in document["devices"] if device["kind"] == "CPU")
    assert cpu["total"] > 1 << 28
    assert 0 < document["ram_available"] <= document["ram"]
    assert 0 < document["threads"] <= document["logical_cores"]
    assert document["llama_cpp_python"].startswith("0.")
    assert document["cpu_features"]


def test_the_screen_gives_the_command_in_one_line_that_can_be_copied() -> None:
    (unused,) = unused_gpus(replace(NVIDIA, tools=(), driver=Driver((13, 0), 8.9)))
    console = Console(record=True, width=60, force_terminal=True)
    with console.capture() as shown:
        doctor_screen.show_checkup(console, replace(checkup(), unused=(unused,)))
    lines = [line.rstrip() for line in Console().render_str(shown.get()).plain.splitlines()]
    assert f'  CMAKE_ARGS="-DGGML_CUDA=on" {PIP}' in lines
    assert "  after installing the CUDA toolkit (nvcc)" in lines
    assert f"  {WHEELS.format('cu130')}" in lines


@pytest.mark.parametrize(
    ("system", "has_amx", "libraries", "variables"),
    [
        ("Linux", False, ("libggml-cpu.so", "libggml.so.0"), ""),
        ("Linux", True, ("libggml-cpu.so",), f'CFLAGS="{NO_AMX}" CXXFLAGS="{NO_AMX}" '),
        (
            "Linux",
            True,
            ("libggml-cuda.so", "libggml-cuda.so.0", "libggml-rpc.so"),
            f'CMAKE_ARGS="-DGGML_CUDA=on -DGGML_RPC=on" CFLAGS="{NO_AMX}" CXXFLAGS="{NO_AMX}" ',
        ),
        ("Windows", False, ("ggml-vulkan.dll",), '$env:CMAKE_ARGS="-DGGML_VULKAN=on"; '),
    ],
)
def test_a_build_for_this_cpu_keeps_the_gpus_it_is_for(
    system: str, has_amx: bool, libraries: tuple[str, ...], variables: str
) -> None:
    assert rebuild_command("pip install", system, has_amx, libraries) == variables + REBUILD


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        (Verdict(), "works"),
        (
            Verdict(can_repack=False, fault="SIGSEGV"),
            "crashes with repacked weights (SIGSEGV): models are loaded without",
        ),
        (
            Verdict(can_repack=False, can_run=False, fault="SIGILL"),
            "crashes (SIGILL): llama.cpp may have been built for another CPU",
        ),
        (Verdict(unchecked="timed out"), "not checked (timed out)"),
        (Verdict(unchecked="\x1b[2J"), "not checked (\\x1b[2J)"),
    ],
)
def test_the_screen_shows_the_verdict_and_the_command_if_it_crashed(
    verdict: Verdict, shown: str
) -> None:
    rebuild = "pip install it" if verdict.fault else ""
    console = Console(width=100)
    with console.capture() as screen:
        doctor_screen.show_checkup(console, replace(checkup(), cpu_check=verdict, rebuild=rebuild))
    lines = [line.rstrip() for line in screen.get().splitlines()]
    assert f"CPU check     {shown}" in lines
    assert ("  pip install it" in lines) == bool(verdict.fault)


def test_a_drivers_output_cannot_control_the_terminal() -> None:
    evil = Unused("\x1b[2JGPU", "", "x")
    console = Console(width=80)
    with console.capture() as shown:
        doctor_screen.show_checkup(console, replace(checkup(), unused=(evil,)))
    assert "\x1b[2J" not in shown.get()
    assert "\\x1b[2JGPU needs x" in shown.get()


def test_peak_memory_rises_with_touched_pages_and_does_not_fall() -> None:
    before = peak_memory()
    more = max(0, before - psutil.Process().memory_info().rss) + (64 << 20)
    block = b"x" * more
    peak = peak_memory()
    assert peak > before + (32 << 20)
    del block
    assert peak_memory() >= peak
