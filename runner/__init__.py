"""GGUF to words and figures: the command line, the engine and the chat."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine, LoadOptions
    from .machine import this_machine
    from .placement import Device, Machine, Override, Plan, Wishes
    from .planner import plan
    from .shape import ModelShape, model_shape

# Each name is looked for when it is first used: whoever plans does not wait for llama.cpp.
_HOMES = {
    "Device": "placement",
    "Engine": "engine",
    "LoadOptions": "engine",
    "Machine": "placement",
    "ModelShape": "shape",
    "Override": "placement",
    "Plan": "placement",
    "Wishes": "placement",
    "model_shape": "shape",
    "plan": "planner",
    "this_machine": "machine",
}

__all__ = [
    "Device",
    "Engine",
    "LoadOptions",
    "Machine",
    "ModelShape",
    "Override",
    "Plan",
    "Wishes",
    "model_shape",
    "plan",
    "this_machine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
