"""The command that recompiles llama-cpp-python for this CPU; pure."""

from __future__ import annotations

from collections.abc import Sequence

_REBUILD = "--force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
# Part of a library file's name, and the build option of llama.cpp that creates it.
_OPTIONS = {
    "cuda": "GGML_CUDA",
    "hip": "GGML_HIP",
    "vulkan": "GGML_VULKAN",
    "sycl": "GGML_SYCL",
    "rpc": "GGML_RPC",
}


def rebuild_command(installer: str, system: str, has_amx: bool, libraries: Sequence[str]) -> str:
    """The command that compiles llama-cpp-python for this CPU, without AMX if `has_amx`.

    `libraries` are the installed library files' names: their GPU backends are built again.
    """
    build_options = [
        f"-D{option}=on"
        for part, option in _OPTIONS.items()
        if any(f"ggml-{part}" in name for name in libraries)
    ]
    variables = {"CMAKE_ARGS": " ".join(build_options)}
    if has_amx:
        variables |= {"CFLAGS": _NO_AMX, "CXXFLAGS": _NO_AMX}
    form = '$env:{}="{}"; ' if system == "Windows" else '{}="{}" '
    return (
        "".join(form.format(name, value) for name, value in variables.items() if value)
        + f"{installer} {_REBUILD}"
    )
