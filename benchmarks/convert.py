"""Our conversion compared with llama.cpp's, on the same checkpoint and machine.

    python benchmarks/convert.py CHECKPOINT [--llama-cpp DIR --python PYTHON] [--threads N]

Four questions, each with its ratio:
    one type    franken-gguf convert -q Q4_K_M; llama.cpp's road to the same file: DIR's
                convert_hf_to_gguf.py to F16 (PYTHON needs torch and transformers), then
                llama_model_quantize. Only with --llama-cpp.
    two types   the same for Q8_0 and Q4_0 in one pass of ours
    ladder      Q8_0, Q6_K, Q5_K_M and Q4_K_M in one pass; one after the other
    disk        Q8_0 by read megabytes a second, command and all; dd copying the same files

Prints wall times and the peak resident memory of each command with all its processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from processes import Run, fastest

from franken_gguf.quantize.tensor_types.type_presets import find_preset

LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")

_QUANTIZE = """
import ctypes, sys, llama_cpp
source, target, file_type, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(file_type), int(threads)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--llama-cpp", type=Path, help="folder with convert_hf_to_gguf.py")
    parser.add_argument("--python", default=sys.executable, help="a Python with torch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=2, help="number of runs; the best counts")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.checkpoint.parent))
    try:
        print(f"{'':<34}{'seconds':>9}{'peak MiB':>10}   ({options.threads} threads)")
        if options.llama_cpp:
            f16 = folder / "f16.gguf"
            first = shown("llama.cpp: to F16", converter(options, f16), options)
            for types in (["Q4_K_M"], ["Q8_0", "Q4_0"]):
                ours = shown(
                    f"ours: {' '.join(types)}", our_command(options, folder, types), options
                )
                steps = [
                    shown(f"llama.cpp: {name}", quantizer(options, f16, folder, name), options)
                    for name in types
                ]
                ratio = ours.seconds / (first.seconds + sum(step.seconds for step in steps))
                print(f"{'ours / llama.cpp':<34}{ratio:>9.2f}")
            f16.unlink()
        ladder(options, folder)
        disk(options, folder)
    finally:
        shutil.rmtree(folder)


def ladder(options: argparse.Namespace, folder: Path) -> None:
    """Four types in one pass against four passes."""
    together = shown("ours: ladder of four", our_command(options, folder, LADDER), options)
    alone = [
        shown(f"ours: {name} alone", our_command(options, folder, [name]), options)
        for name in LADDER
    ]
    ratio = together.seconds / sum(one.seconds for one in alone)
    print(f"{'ladder / one after the other':<34}{ratio:>9.2f}")


def disk(options: argparse.Namespace, folder: Path) -> None:
    """Megabytes read a second by a conversion to Q8_0, and by dd."""
    files = sorted(options.checkpoint.glob("*.safetensors"))
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    ours = shown("ours: Q8_0", our_command(options, folder, ["Q8_0"]), options)
    script = 'for file; do dd if="$file" bs=1M status=none; done > "$0"; sync "$0"'
    command = ["sh", "-c", script, str(folder / "copy"), *map(str, files)]
    theirs = shown("dd", command, options)
    print(
        f"{'ours / dd':<34}{theirs.seconds / ours.seconds:>9.2f}   "
        f"({megabytes / ours.seconds:.0f} and {megabytes / theirs.seconds:.0f} MB/s read)"
    )


def our_command(
    options: argparse.Namespace, folder: Path, types: tuple[str, ...] | list[str]
) -> list[str]:
    """One pass of ours."""
    out = folder / "ours"
    out.mkdir(exist_ok=True)
    return [
        str(Path(sys.executable).with_name("franken-gguf")),
        *("convert", str(options.checkpoint), "-o", str(out)),
        *("--threads", str(options.threads), "--overwrite"),
        *(word for name in types for word in ("-q", name)),
    ]


def converter(options: argparse.Namespace, target: Path) -> list[str]:
    """llama.cpp's first step."""
    script = options.llama_cpp / "convert_hf_to_gguf.py"
    words = [str(options.checkpoint), "--outfile", str(target), "--outtype", "f16"]
    return [options.python, str(script), *words]


def quantizer(options: argparse.Namespace, f16: Path, folder: Path, name: str) -> list[str]:
    """llama.cpp's second step."""
    words = [str(f16), str(folder / "theirs.gguf"), str(int(find_preset(name).file_type))]
    return [sys.executable, "-c", _QUANTIZE, *words, str(options.threads)]


def shown(title: str, command: list[str], options: argparse.Namespace) -> Run:
    """Run a command, print its line."""
    best = fastest(command, options.repeat)
    print(f"{title:<34}{best.seconds:>9.2f}{best.peak_mib:>10.0f}", flush=True)
    return best


if __name__ == "__main__":
    main()
