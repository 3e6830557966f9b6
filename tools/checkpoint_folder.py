"""A Hugging Face folder as the hub would hold it, made once and whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from safetensors.numpy import save_file
from smollm2_tokenizer import write_tokenizer
from smollm2_wide import TOKENS, Tensors

SOURCES = ("checkpoint_folder.py", "smollm2_tokenizer.py", "smollm2_wide.py")


def make_once(folder: Path, recipe: str, size: str, write: Callable[[Path], None]) -> Path:
    """`folder`, filled by `write` unless it stands there already, made by the same `recipe`.

    Safe to start twice at the same time, and after any interruption. Raises OSError.
    """
    part = folder.with_name(folder.name + ".part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".recipe"
        if stamp.exists() and stamp.read_text() == recipe:
            return folder
        print(f"making {folder.name} ({size}), once ...", file=sys.stderr, flush=True)
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            write(part)
            (part / stamp.name).write_text(recipe)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def recipe(script: str, *settings: object) -> str:
    """What a checkpoint depends on, in short: when it changes, the checkpoint is made anew."""
    sources = (Path(script), *map(Path(__file__).with_name, SOURCES))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return " ".join([digest.hexdigest(), *map(str, settings)])


def write_folder(
    folder: Path,
    shards: Sequence[Iterable[Tensors]],
    config: dict[str, object],
    card: str,
    gguf: Path,
) -> None:
    """Everything that the hub would hold; tokenizer and licence come from SmolLM2's `gguf`."""
    write_shards(folder, shards)
    write_json(folder / "config.json", dict(sorted(config.items())))
    write_json(folder / "generation_config.json", TOKENS)
    write_tokenizer(gguf, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    shutil.copy(gguf.with_name("LICENSE"), folder)


def write_shards(folder: Path, shards: Sequence[Iterable[Tensors]]) -> None:
    """The weights, one shard in memory at a time, and their index."""
    weight_map: dict[str, str] = {}
    total = 0
    for number, parts in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = dict(chain.from_iterable(parts))
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def write_json(path: Path, document: object) -> None:
    """`document` as people lay JSON out."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
