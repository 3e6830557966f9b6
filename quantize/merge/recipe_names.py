"""What a recipe names: its experts, and its models of the Hub, which need not be here for that."""

from __future__ import annotations

from pathlib import Path

from franken_gguf.quantize.hub.hub_name import HubName

from .recipe_file import read_recipe


def expert_names(path: Path) -> tuple[str, ...]:
    """The experts' names for display: each the name of its adapter or else of its model.

    Raises MergeError, OSError.
    """
    return tuple(expert.source.name for expert in read_recipe(path, _named).experts)


def hub_models(path: Path) -> list[HubName]:
    """The models of a recipe that are named as on the Hub, each once.

    Raises MergeError for any other fault of the recipe, OSError.
    """
    names: dict[HubName, None] = {}

    def note(name: HubName) -> Path:
        names[name] = None
        return _named(name)

    read_recipe(path, note)
    return list(names)


def _named(name: HubName) -> Path:
    """A path of the model's name, where the model itself is not needed."""
    return Path(name.file or name.short)
