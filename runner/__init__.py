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
    from .chat import Answer, Chat, Forgotten, Remembered, Text
    from .conversation import Conversation, Message
    from .engine import Engine, Generation, LoadOptions
    from .sampling import Sampling
    from .session import Session, Sessions

__all__ = [
    "Answer",
    "Chat",
    "Conversation",
    "Engine",
    "Forgotten",
    "Generation",
    "LoadOptions",
    "Message",
    "Remembered",
    "Sampling",
    "Session",
    "Sessions",
    "Text",
    "load",
]

_HOMES = {
    "api": ("load",),
    "chat": ("Answer", "Chat", "Forgotten", "Remembered", "Text"),
    "conversation": ("Conversation", "Message"),
    "engine": ("Engine", "Generation", "LoadOptions"),
    "sampling": ("Sampling",),
    "session": ("Session", "Sessions"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
