"""The arguments of `franken-gguf chat` as typed values; imports no llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.planning.placement import PlacementOptions


@dataclass(frozen=True)
class SamplingArguments:
    """How tokens are sampled."""

    settings: Mapping[str, Any]
    """By the field names of `Sampling`; only those that were given."""
    preset: str | None = None
    """Name of the settings used for fields that `settings` lacks."""
    bans: tuple[str, ...] = ()
    """Banned phrases and regular expressions."""


@dataclass(frozen=True)
class StoryArguments:
    """Characters, lorebooks, the user's name and persona."""

    characters: tuple[Path, ...] = ()
    lorebooks: tuple[Path, ...] = ()
    user: str = ""
    persona: str = ""
    """A file, or a name in the library; "" is none."""


@dataclass(frozen=True)
class SessionArguments:
    """Which saved chat to resume, and what to save."""

    name: str | None = None
    is_resumed: bool = False
    """Resume `name`, or the chat that was saved last."""
    imported: Path | None = None
    """A SillyTavern chat file to start with."""
    no_save: bool = False
    keep_context: bool = False
    """Save the KV cache beside the session."""


@dataclass(frozen=True)
class ModelArguments:
    """Which model to load, where, and how it answers."""

    header: Header
    placement: PlacementOptions
    vram: tuple[int, ...] | None
    """Bytes of each GPU to plan with; None: the free memory."""
    rpc: tuple[str, ...]
    n_threads: int | None
    max_tokens: int | None
    """Longest answer in tokens; None: no limit."""
    sampling: SamplingArguments
    summarize: bool
    experts: bool
    """Record the routers' choices."""
    expert_names: tuple[str, ...]


@dataclass(frozen=True)
class ChatArguments(ModelArguments):
    """All arguments of a chat."""

    question: str | None
    """Answer this and exit; None: chat at the terminal."""
    system: str
    story: StoryArguments
    session: SessionArguments
    given: frozenset[str] = frozenset()
    """Settings of the command line, which come before a saved chat's; named as in KeptSettings."""


@dataclass(frozen=True)
class ServeArguments(ModelArguments):
    """All arguments of a server."""

    second: Header | None
    """A model for blind comparisons with the first."""
    host: str
    port: int
    key: str
    """What clients must send; "" is none."""
    tls: tuple[Path, Path] | None
    """The files of the certificate and of its key."""
    alias: str
    """What clients call the model; "" is the file's name."""
    allowed_hosts: tuple[str, ...]
    origins: tuple[str, ...]
    cache_ram: int
    cache_disk: int
    system: str
    story: StoryArguments
