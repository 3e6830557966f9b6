"""Our conversion against llama.cpp's two steps, same checkpoint, same threads, same run.

    python benchmarks/convert.py CHECKPOINT --llama-cpp DIR [--python PYTHON] [-q TYPE]...

llama.cpp's road: DIR/convert_hf_to_gguf.py to F16 (PYTHON needs torch and transformers), then
llama_model_quantize once for each type. Ours: one `franken-gguf convert` for all the types.
Prints wall times, ratios, and the peak resident memory of each process. Without --llama-cpp only
ours is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from franken_gguf.quantize.presets import find_preset

_QUANTIZE = """
import ctypes, sys, llama_cpp
source, target, file_type, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(file_type), int(threads)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
"""


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    peak_mib: float


def run(command: list[str]) -> Run:
    """Run `command` silently; wall time and peak resident memory of that process alone."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}\nfailed:\n{errors.decode(errors='replace')[-2000:]}")
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Run(time.perf_counter() - start, kib / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--llama-cpp", type=Path, help="folder with convert_hf_to_gguf.py")
    parser.add_argument("--python", default=sys.executable, help="a Python with torch")
    parser.add_argument("-q", "--type", dest="types", action="append", help="default: Q8_0, Q4_0")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=3, help="best of so many runs")
    options = parser.parse_args()
    types = options.types or ["Q8_0", "Q4_0"]
    threads = str(options.threads)

    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.checkpoint.parent))
    try:
        command = [
            str(Path(sys.executable).with_name("franken-gguf")),
            *("convert", str(options.checkpoint), "-o", str(folder / "ours")),
            *("--threads", threads, "--overwrite"),
            *(word for name in types for word in ("-q", name)),
        ]
        (folder / "ours").mkdir()
        ours = min((run(command) for _ in range(options.repeat)), key=lambda r: r.seconds)
        print(f"{'step':<28}{'seconds':>9}{'peak MiB':>10}")
        print(f"{'ours: ' + ' '.join(types):<28}{ours.seconds:>9.2f}{ours.peak_mib:>10.0f}")
        if options.llama_cpp:
            theirs = their_road(options, folder, types, threads)
            print(f"ours / theirs: {ours.seconds / theirs:.2f} (threads: {threads})")
    finally:
        shutil.rmtree(folder)


def their_road(options: argparse.Namespace, folder: Path, types: list[str], threads: str) -> float:
    """llama.cpp's two steps; prints each and returns the seconds of all."""
    f16 = folder / "f16.gguf"
    script = options.llama_cpp / "convert_hf_to_gguf.py"
    command = [options.python, str(script), str(options.checkpoint), "--outfile", str(f16)]
    steps = {"llama.cpp: convert to F16": [*command, "--outtype", "f16"]}
    for name in types:
        file_type = str(int(find_preset(name).file_type))
        steps[f"llama.cpp: quantize {name}"] = [
            *(sys.executable, "-c", _QUANTIZE),
            *(str(f16), str(folder / "theirs.gguf"), file_type, threads),
        ]
    total = 0.0
    for title, step in steps.items():
        best = min((run(step) for _ in range(options.repeat)), key=lambda r: r.seconds)
        print(f"{title:<28}{best.seconds:>9.2f}{best.peak_mib:>10.0f}")
        total += best.seconds
    return total


if __name__ == "__main__":
    main()
