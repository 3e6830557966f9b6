"""The cache of the Hugging Face Hub on this machine, in huggingface_hub's layout:

    models--org--name/refs/main              the commit that a branch or a tag names
    models--org--name/snapshots/<commit>/    the files, as links into blobs/
    models--org--name/blobs/<hash>           their contents

(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). Others write it: it is untrusted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from franken_gguf.quantize.common.errors import HubError

from .hub_name import HubName
from .needed_files import INDEX, SINGLE, gguf_files, index_shards, is_complete

COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_FILES = 10_000
_MOST_INDEX = 1 << 26


def cache_folder() -> Path:
    """The cache's folder, from huggingface_hub's environment variables or its default."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{home}/huggingface"
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(os.path.expandvars(folder or f"{home}/hub")).expanduser()


def repository_folder(name: HubName) -> Path:
    """Where the cache keeps a repository; the folder may not exist."""
    return cache_folder() / f"models--{name.repository.replace('/', '--')}"


def find_cached(name: HubName, *, gguf: bool = False) -> Path | None:
    """The model's folder or GGUF file in the cache, or None if it is not there as a whole.

    With `gguf` only a GGUF file will do. Raises HubError for a link that leads out of the cache,
    and if `name` leaves open which of several GGUF files is meant.
    """
    folder = snapshot(name)
    if folder is None or not folder.is_dir():
        return None
    files = _files(folder)
    if not (gguf or name.file or name.quant) and has_weights(folder):
        return folder
    parts = gguf_files(name, files)
    return folder / parts[0] if is_complete(parts) else None


def snapshot(name: HubName) -> Path | None:
    """The folder of the revision's files; None if no commit is known for it."""
    folder = repository_folder(name)
    commit = name.revision
    if not COMMIT.fullmatch(commit):
        try:
            with (folder / "refs" / commit).open("rb") as file:
                commit = file.read(64).decode("ascii", "replace").strip()
        except OSError:
            return None
    return folder / "snapshots" / commit if COMMIT.fullmatch(commit) else None


def has_weights(folder: Path) -> bool:
    """Whether a folder holds all safetensors files of a checkpoint or adapter."""
    index = folder / INDEX
    if not index.is_file():
        return any((folder / name).is_file() for name in (SINGLE, "adapter_model.safetensors"))
    if index.stat().st_size > _MOST_INDEX:
        return False
    shards = index_shards(index.read_text(encoding="utf-8", errors="replace"))
    return bool(shards) and all((folder / shard).is_file() for shard in shards)


def folder_name(path: Path) -> str:
    """A path's last part; for a folder of the cache, which is named by a commit, the model's."""
    absolute = path.absolute()  # not resolve(): a file of the cache links to a hash
    repository = absolute.parent.parent.name
    if absolute.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return path.name


def _files(folder: Path) -> list[str]:
    """The files of a snapshot, relative to it, without broken links."""
    inside = [os.path.realpath(one) for one in (folder.parent.parent, cache_folder())]
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(place, entry)
            target = Path(os.path.realpath(path))
            if not any(target.is_relative_to(root) for root in inside):
                raise HubError(f"{path}: is a link that leads out of the cache; delete it")
            if target.is_file():
                names.append(path.relative_to(folder).as_posix())
        if len(names) > _MOST_FILES:
            raise HubError(f"{folder}: has more than {_MOST_FILES:,} files; not a model")
    return names
