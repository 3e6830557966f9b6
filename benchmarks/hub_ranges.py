"""What it would cost to convert a checkpoint of the Hub by ranges, without a copy on the disk.

A stand-in for the Hub on loopback, in a process of its own, serves a made checkpoint: once its
files are fetched as --download does and then converted, once every read of the conversion is a
range of the file on the server. Prints CPU seconds of this process, wall seconds, and requests,
without and with a delay before each answer.

.venv/bin/python benchmarks/hub_ranges.py
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from huggingface_hub import get_hf_file_metadata, get_session

from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.checkpoint import safetensors_folder
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.hub.hub_name import HubName
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.download.fetch_files import fetch_files
from franken_gguf.runner.download.repository import look_up
from franken_gguf.runner.download.wanted_files import wanted_files
from support.checkpoints import Sizes, make_checkpoint
from support.hub import hub

NAME = HubName("org/tales")
DELAY = 0.03
SHAPE: Sizes = {
    "hidden": 1024,
    "heads": 16,
    "kv_heads": 4,
    "feed_forward": 2816,
    "experts": 8,
    "layers": 3,
}


def serve(folder: Path, delay: float, ends: Connection) -> None:
    """Serve the folder's files until the other end says so."""
    with hub() as running:
        running.delay = delay
        running.add(NAME.repository, folder)
        ends.send(running.address)
        ends.recv()


def measured(work: Callable[[], Any]) -> str:
    """CPU seconds of this process and wall seconds that `work` takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return f"{time.process_time() - cpu:5.2f} s CPU, {time.perf_counter() - wall:5.2f} s"


def converted(folder: Path, out: Path) -> None:
    """Convert on one process."""
    source = open_source(folder)
    convert(source, [plan_output(source, out, find_preset("Q8_0"))], overwrite=True)


def fetched() -> None:
    """Fetch the checkpoint into the cache."""
    repository = look_up(NAME)
    fetch_files(repository, wanted_files(repository, gguf=False), lambda name, nbytes: None)


class Ranges:
    """Reads a file of the server in place of one on the disk, from an address for each name."""

    def __init__(self, address_of: Callable[[str], str]) -> None:
        self.address_of = address_of
        self.sizes: list[int] = []

    def __call__(self, path: Path, offset: int, count: int, what: str) -> U8:
        """See quantize.common.files.read_at."""
        self.sizes.append(count)
        headers = {"Range": f"bytes={offset}-{offset + count - 1}", "Accept-Encoding": "identity"}
        answer = get_session().get(self.address_of(path.name), headers=headers)
        assert answer.status_code == 206
        return np.frombuffer(answer.content, np.uint8)

    def measure(self, folder: Path, out: Path) -> str:
        """Convert the folder, reading its weights from the server."""
        with patch.object(safetensors_folder, "read_at", self):
            return measured(lambda: converted(folder, out))


def compare(folder: Path, work: Path, delay: float) -> None:
    """Print what both ways cost."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(folder, delay, theirs))
    server.start()
    os.environ["HF_ENDPOINT"] = address = ours.recv()
    os.environ["HF_HOME"] = str(work / f"home {delay}")
    by_file, by_range = work / "file.gguf", work / "range.gguf"
    print(f"{1000 * delay:.0f} ms before each answer")
    print(f"  download, with checksum {measured(fetched)}")
    print(f"  convert the files       {measured(lambda: converted(folder, by_file))}")
    hub_address = f"{address}/{NAME.repository}/resolve/main/"
    storage = partial(stored_at, {}, hub_address)
    for name, address_of in (("Hub", hub_address.__add__), ("storage", storage)):
        ranges = Ranges(address_of)
        print(f"  convert, {name + ':':9}      {ranges.measure(folder, by_range)}", end=", ")
        sizes = np.array(ranges.sizes)
        print(f"{len(sizes)} ranges, median {np.median(sizes) / 1e6:.1f} MB")
        assert by_file.read_bytes() == by_range.read_bytes()
    ours.send("end")
    server.join()


def stored_at(known: dict[str, str], hub_address: str, name: str) -> str:
    """The address in the Hub's storage that a file's own address leads to, asked for once."""
    if name not in known:
        known[name] = get_hf_file_metadata(hub_address + name).location
    return known[name]


def main() -> None:
    """Make the checkpoint and compare."""
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = make_checkpoint(work / "tales", **SHAPE)
        nbytes = (folder / "model.safetensors").stat().st_size
        print(f"a mixture of {nbytes / 1e6:.0f} MB, to Q8_0 on one process")
        for delay in (0.0, DELAY):
            compare(folder, work, delay)


if __name__ == "__main__":
    main()
