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
    from .answer import Answer, Forgotten, Remembered, Text
    from .api import load
    from .chat import Chat
    from .conversation import Conversation, Message
    from .engine import Engine, Generation, LoadOptions
    from .machine import this_machine
    from .placement import Device, Machine, Override, Plan, Wishes
    from .planner import plan
    from .sampling import Sampling
    from .session import Session, Sessions
    from .shape import ModelShape, model_shape

__all__ = [
    "Answer",
    "Chat",
    "Conversation",
    "Device",
    "Engine",
    "Forgotten",
    "Generation",
    "LoadOptions",
    "Machine",
    "Message",
    "ModelShape",
    "Override",
    "Plan",
    "Remembered",
    "Sampling",
    "Session",
    "Sessions",
    "Text",
    "Wishes",
    "load",
    "model_shape",
    "plan",
    "this_machine",
]

_HOMES = {
    "answer": ("Answer", "Forgotten", "Remembered", "Text"),
    "api": ("load",),
    "chat": ("Chat",),
    "conversation": ("Conversation", "Message"),
    "engine": ("Engine", "Generation", "LoadOptions"),
    "machine": ("this_machine",),
    "placement": ("Device", "Machine", "Override", "Plan", "Wishes"),
    "planner": ("plan",),
    "sampling": ("Sampling",),
    "session": ("Session", "Sessions"),
    "shape": ("ModelShape", "model_shape"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
