"""A copy of the base model's config and tokenizer to change; the user's folder stays as it is."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from franken_gguf.quantize.hub.hub_cache import folder_name

from .config_files import copy_tokenizer
from .source_models import Model


def with_copied_files(model: Model, change: str) -> Model:
    """`model` with its config.json and tokenizer copied to a temporary folder.

    The folder's name ends in `change`. It is deleted together with the model's weights, at the
    latest when the program ends.
    """
    temporary = Path(mkdtemp(prefix="franken-gguf-"))
    weakref.finalize(model.weights, shutil.rmtree, temporary, ignore_errors=True)
    folder = temporary / f"{folder_name(model.folder.resolve())}+{change}"
    folder.mkdir()
    copy_tokenizer(model.folder, folder)
    shutil.copyfile(model.folder / "config.json", folder / "config.json")
    return replace(model, folder=folder)
