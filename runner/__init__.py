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
    from .api import load
    from .chat.answer import Answer, Forgotten, Remembered, Text
    from .chat.chat import Chat
    from .chat.conversation import Conversation, Message
    from .chat.session import Session, Sessions
    from .engine.engine import Engine, Generation, LoadOptions
    from .engine.machine import this_machine
    from .engine.sampling import Sampling
    from .planning.placement import Device, Machine, Override, Plan, Wishes
    from .planning.planner import plan
    from .planning.shape import ModelShape, model_shape

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
    "chat.answer": ("Answer", "Forgotten", "Remembered", "Text"),
    "api": ("load",),
    "chat.chat": ("Chat",),
    "chat.conversation": ("Conversation", "Message"),
    "engine.engine": ("Engine", "Generation", "LoadOptions"),
    "engine.machine": ("this_machine",),
    "planning.placement": ("Device", "Machine", "Override", "Plan", "Wishes"),
    "planning.planner": ("plan",),
    "engine.sampling": ("Sampling",),
    "chat.session": ("Session", "Sessions"),
    "planning.shape": ("ModelShape", "model_shape"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
