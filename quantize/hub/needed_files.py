"""Which files of a repository a model consists of: its weights and data, never pickles or code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from franken_gguf.quantize.common.errors import HubError, shown

from .hub_name import HubName, is_safe

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_ADAPTER = "adapter_model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""A checkpoint's files about its tokens and chat template."""
_DATA = (
    "config.json",
    "generation_config.json",
    "README.md",  # its front matter becomes metadata of the GGUF file
    *TOKENIZER_FILES,
    "adapter_config.json",
)
_TEMPLATE = re.compile(r"additional_chat_templates/[^/]+\.jinja")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_NOT_MODELS = re.compile(r"(?:^|[/._-])(?:mmproj|imatrix)", re.IGNORECASE)
_MOST_SHOWN = 8


def checkpoint_files(names: Sequence[str], shards: Iterable[str] = ()) -> list[str]:
    """The files of a checkpoint or adapter among `names`; empty if it has no safetensors.

    `shards` are the files that its index lists, see `index_shards`.
    """
    there = set(names)
    weights = [INDEX, *shards] if INDEX in there else [SINGLE]
    found = [name for name in (*weights, _ADAPTER) if name in there]
    if not found:
        return []
    templates = sorted(name for name in there if _TEMPLATE.fullmatch(name))
    return [name for name in _DATA if name in there] + templates + found


def index_shards(text: str) -> list[str]:
    """The file names in a safetensors index, each once; empty if it is damaged."""
    try:
        listed: Any = json.loads(text)["weight_map"].values()
        names = [name for name in listed if is_safe(name) and "/" not in name]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return sorted(set(names))


def gguf_files(name: HubName, names: Iterable[str]) -> list[str]:
    """The GGUF file that `name` means, or all parts of a split one in order; empty if none is.

    Raises HubError if the repository has several models, or not the file that is named.
    """
    models: dict[str, list[str]] = {}
    for file in sorted(names):
        if file.lower().endswith(".gguf") and not _NOT_MODELS.search(file):
            split = _SPLIT.fullmatch(file)
            stem, key = (split[1], f"{split[1]}-of-{split[3]}") if split else (file[:-5], file)
            if re.search(rf"(?:^|[/.-]){name.quant}$", stem, re.IGNORECASE) or not name.quant:
                models.setdefault(key, []).append(file)
    if name.file:
        return next((files for files in models.values() if name.file in files), [])
    if len(models) > 1:
        firsts = [files[0] for files in models.values()]
        more = f" and {len(firsts) - _MOST_SHOWN} more" if len(firsts) > _MOST_SHOWN else ""
        listed = ", ".join(shown(first)[1:-1] for first in firsts[:_MOST_SHOWN])
        raise HubError(
            f"{name}: has {len(firsts)} GGUF files; name one, as in "
            f"{replace(name, quant='', file=firsts[0])} (available: {listed}{more})"
        )
    return next(iter(models.values()), [])


def is_complete(files: Sequence[str]) -> bool:
    """Whether these files, from `gguf_files`, are all parts of a model."""
    split = _SPLIT.fullmatch(files[0]) if files else None
    return bool(files) and (split is None or len(files) == int(split[3]))


def pickles(names: Iterable[str]) -> list[str]:
    """The files among `names` that can run code when they are loaded."""
    return [name for name in names if name.lower().endswith(_PICKLES)]
