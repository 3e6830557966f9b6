"""Which files of a repository to fetch for a model, or why it has none."""

from __future__ import annotations

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.needed_files import (
    INDEX,
    checkpoint_files,
    gguf_files,
    index_shards,
    is_complete,
    pickles,
)

from .fetch_files import fetch_file
from .hub_client import endpoint
from .repository import RemoteFile, Repository

_MOST_INDEX = 1 << 26


def wanted_files(repository: Repository, *, gguf: bool) -> list[RemoteFile]:
    """The files of a checkpoint or of a GGUF model, with `gguf` only of the latter.

    The index of a checkpoint is fetched for that. Raises HubError if there is no such model.
    """
    name = repository.name
    wanted = [] if gguf or name.file or name.quant else _checkpoint(repository)
    wanted = wanted or gguf_files(repository.name, repository.files)
    if not wanted:
        raise HubError(f"{repository.name}: {_lack(repository, gguf=gguf)}")
    if wanted[0].lower().endswith(".gguf") and not is_complete(wanted):
        raise HubError(f"{repository.name}: parts of {wanted[0]} are missing; try another file")
    return [repository.files[name] for name in wanted]


def _checkpoint(repository: Repository) -> list[str]:
    names = list(repository.files)
    if INDEX not in names:
        return checkpoint_files(names)
    index = repository.files[INDEX]
    if index.nbytes > _MOST_INDEX:
        raise HubError(f"{repository.name}: {INDEX} is too large; try another revision")
    shards = index_shards(fetch_file(repository, index).read_text("utf-8", "replace"))
    if lost := [shard for shard in shards if shard not in names]:
        raise HubError(
            f"{repository.name}: lacks {lost[0]}, which its index lists; try another revision"
        )
    return checkpoint_files(names, shards)


def _lack(repository: Repository, *, gguf: bool) -> str:
    """What the repository lacks, and what to do."""
    names = list(repository.files)
    if asked := repository.name.file or repository.name.quant:
        return f"has no GGUF file {asked!r}; see {endpoint()}/{repository.name.repository}"
    if checkpoint_files(names):
        return f"has no GGUF file; convert it first: franken-gguf convert {repository.name}"
    if pickles(names) and not gguf:
        return (
            "has only pickled weights, which can run code when loaded; have them converted at "
            "https://huggingface.co/spaces/safetensors/convert and give the revision that it names"
        )
    return "has neither safetensors nor a GGUF file; is it a model?"
