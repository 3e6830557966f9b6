"""Models named as on the Hugging Face Hub, for all verbs: found in its cache, or fetched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import find_cached
from franken_gguf.quantize.hub.hub_name import HubName, hub_name
from franken_gguf.runner.cli.options.option_groups import Decorator, option
from franken_gguf.runner.download.hub_client import endpoint, is_offline
from franken_gguf.runner.terminal.standard_input import has_keyboard


def hub_names(
    *, sources: Sequence[str] = (), models: Sequence[str] = (), group: str = ""
) -> Decorator:
    """Let a command's arguments name models of the Hub: it gets their paths on this machine.

    `sources` are arguments that take a checkpoint, a GGUF file or a recipe, whose models are found
    too; `models` those that take only GGUF files. Adds the option --download.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_paths(*, download: bool, **values: Any) -> Any:
            source = partial(_source, download=download)
            model = partial(_found, gguf=True, download=download)
            for argument in sources:
                values[argument] = _each(values[argument], source)
            for argument in models:
                values[argument] = _each(values[argument], model)
            return command(**values)

        return option(
            "--download",
            group=group,
            is_flag=True,
            help=(
                "Download models that are given by name (org/name[@REVISION], org/name:QUANT or "
                "hf:org/name/FILE.gguf) from the Hugging Face Hub into its cache on this machine."
            ),
        )(with_paths)

    return decorate


def _each(value: Any, find: Callable[[str], Path]) -> Any:
    """What `find` gives for an argument's text, or for each of several."""
    if isinstance(value, tuple):
        return tuple(map(find, value))
    return None if value is None else find(value)


def _source(text: str, *, download: bool) -> Path:
    path = Path(text)
    if _is_recipe(path):
        from franken_gguf.quantize.merge.recipe_names import hub_models  # noqa: PLC0415 - 8 ms

        _provide(hub_models(path), gguf=False, download=download)
        return path
    return _found(text, gguf=False, download=download)


def _is_recipe(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".yml", ".yaml")


def _found(text: str, *, gguf: bool, download: bool) -> Path:
    """The path of a model; `text` itself if it is there or cannot be a name."""
    path = Path(text)
    if gguf:
        _refuse_other_kinds(path)
    if text.startswith(("https:/", "http:/")):
        raise HubError(f"{text}: is an address; give the model's name on the Hub, as in org/name")
    name = None if path.exists() else hub_name(text)
    if name is None:
        return path
    if gguf and find_cached(name, gguf=True) is None and find_cached(name):
        raise HubError(f"{name}: is a checkpoint; convert it first: franken-gguf convert {name}")
    _provide([name], gguf=gguf, download=download)
    if (cached := find_cached(name, gguf=gguf)) is None:
        raise HubError(
            f"{name}: no such file or folder, and not in the Hugging Face cache; add --download "
            f"to fetch it from {endpoint()}"
        )
    return cached


def _refuse_other_kinds(path: Path) -> None:
    """Raise HubError for what `convert` takes, but a verb for GGUF files does not."""
    source = path.parent if path.suffix.lower() == ".safetensors" and path.is_file() else path
    if source.is_dir() and (model := min(source.glob("*.gguf"), default=None)):
        raise HubError(f"{path}: is not a GGUF file; give one, such as {model}")
    if source.is_dir() or _is_recipe(source):
        raise HubError(f"{path}: is not a GGUF file; make one first: franken-gguf convert {source}")


def _provide(names: Sequence[HubName], *, gguf: bool, download: bool) -> None:
    """Fetch models: all with --download, otherwise those that are missing, if the user agrees."""
    if not download:
        names = [name for name in names if find_cached(name, gguf=gguf) is None]
    if names and (download or _agreed(names)):
        from .hub_fetch import fetch  # noqa: PLC0415 - takes 0.2 s

        for name in names:
            fetch(name, gguf=gguf)


def _agreed(names: Sequence[HubName]) -> bool:
    """Ask at a terminal; elsewhere, and offline, nothing is fetched without --download."""
    if is_offline() or not (has_keyboard() and sys.stderr.isatty()):
        return False
    listed = ", ".join(map(str, names))
    text = f"{listed}: not in the Hugging Face cache. Download from {endpoint()}?"
    try:
        return click.confirm(text, err=True)
    except click.Abort:
        raise KeyboardInterrupt from None
