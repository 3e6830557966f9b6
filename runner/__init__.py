"""GGUF to words and figures: the command line, the engine and the chat.

    from franken_gguf.runner import Text, load

    with load("model.gguf", system="You tell stories.") as chat:
        for piece in chat.ask("Tell me one about a lighthouse."):
            if isinstance(piece, Text):
                print(piece.text, end="", flush=True)

The names below are what programs may rely on; each is imported when it is first used, since
llama.cpp takes a while to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from franken_gguf.runner.chat.answer import Answer, Summarized, Text, Truncated
    from franken_gguf.runner.chat.chat import Chat
    from franken_gguf.runner.conversation.conversation import Conversation, Message
    from franken_gguf.runner.conversation.session import Session, Sessions
    from franken_gguf.runner.engine.engine import Engine, Generation, LoadOptions
    from franken_gguf.runner.engine.this_machine import this_machine
    from franken_gguf.runner.planning.model_shape import ModelShape, model_shape
    from franken_gguf.runner.planning.placement import (
        Device,
        Machine,
        Override,
        PlacementOptions,
        Plan,
    )
    from franken_gguf.runner.planning.planner import plan
    from franken_gguf.runner.sampling.settings import Sampling
    from franken_gguf.runner.server.app import serve_app

    from .api import load

__all__ = [
    "Answer",
    "Chat",
    "Conversation",
    "Device",
    "Engine",
    "Generation",
    "LoadOptions",
    "Machine",
    "Message",
    "ModelShape",
    "Override",
    "PlacementOptions",
    "Plan",
    "Sampling",
    "Session",
    "Sessions",
    "Summarized",
    "Text",
    "Truncated",
    "load",
    "model_shape",
    "plan",
    "serve_app",
    "this_machine",
]

_HOMES = {
    "chat.answer": ("Answer", "Truncated", "Summarized", "Text"),
    "api": ("load",),
    "chat.chat": ("Chat",),
    "conversation.conversation": ("Conversation", "Message"),
    "engine.engine": ("Engine", "Generation", "LoadOptions"),
    "engine.this_machine": ("this_machine",),
    "planning.placement": ("Device", "Machine", "Override", "Plan", "PlacementOptions"),
    "planning.planner": ("plan",),
    "sampling.settings": ("Sampling",),
    "conversation.session": ("Session", "Sessions"),
    "server.app": ("serve_app",),
    "planning.model_shape": ("ModelShape", "model_shape"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
