"""A copy of a GGUF file with other routers: nothing else differs by a bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import replacing, write_at
from franken_gguf.quantize.gguf_file.header import Header

from .mixture_check import ROUTER


def check_output(header: Header, path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if the copy cannot be written to `path`."""
    if header.integer("split.count", 1) > 1:
        raise OutputError(
            f"{header.path}: is split into several files; join them with llama-gguf-split --merge "
            "first"
        )
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file with -o")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; create it first")
    if path.exists() and path.samefile(header.path):
        raise OutputError(f"{path}: is the source itself; choose another name with -o")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; add --overwrite to replace it")
    free = shutil.disk_usage(path.parent).free
    if header.file_bytes > free:
        raise OutputError(
            f"{path.parent}: {header.file_bytes:,} bytes needed, {free:,} free; make room, or "
            "choose another folder with -o"
        )


def write_retrained(header: Header, rows: F32, path: Path, part: Path) -> None:
    """Copy the file of `header` to `path`, with `rows` [layers, experts, hidden] as its routers.

    The copy is called `part` until it is complete. A file at `path` is replaced. Raises
    OutputError, OSError.
    """
    tensors = {tensor.name: tensor for tensor in header.tensors}
    with replacing(path, part=part, fsync=True):
        shutil.copyfile(header.path, part)
        if part.stat().st_size != header.file_bytes:
            raise OutputError(
                f"{header.path}: changed while it was being read; rerun the same command"
            )
        for layer, values in enumerate(rows):
            tensor = tensors[f"blk.{layer}.{ROUTER}"]
            data = np.ascontiguousarray(values, "<f4")
            assert data.nbytes == tensor.nbytes
            write_at(part, tensor.offset, data.view(np.uint8))
