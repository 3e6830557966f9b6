"""What one run of `franken-gguf chat` is asked to do, as typed values; needs no llama.cpp."""

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
    """By the names of `Sampling`; only those that were given."""
    preset: str | None = None
    """Name of the settings that apply where `settings` has none."""
    bans: tuple[str, ...] = ()
    """Phrases and expressions that no answer may contain."""


@dataclass(frozen=True)
class StoryArguments:
    """Who plays, where, and with whom."""

    characters: tuple[Path, ...] = ()
    lorebooks: tuple[Path, ...] = ()
    user: str = ""


@dataclass(frozen=True)
class SessionArguments:
    """Which saved chat to resume, and what to save."""

    name: str | None = None
    is_resumed: bool = False
    """Resume `name`, or the chat that was saved last."""
    imported: Path | None = None
    """A file of SillyTavern's to start with."""
    no_save: bool = False
    keep_context: bool = False
    """Save the KV cache beside the session."""


@dataclass(frozen=True)
class ChatArguments:
    """Everything that the command line can ask of a chat."""

    header: Header
    question: str | None
    """Answer this and leave; None: talk at the terminal."""
    system: str
    placement: PlacementOptions
    vram: tuple[int, ...] | None
    """Bytes of each GPU to plan with; None: what is free."""
    rpc: tuple[str, ...]
    n_threads: int | None
    max_tokens: int | None
    """Longest answer; None: no limit."""
    sampling: SamplingArguments
    story: StoryArguments
    session: SessionArguments
    summarize: bool
    experts: bool
    """Record the routers' choices."""
    expert_names: tuple[str, ...]
