"""A base model with small files of its own, to be changed: its folder is the user's, and stays."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from .config_files import copy_tokenizer
from .source_models import Model


def with_own_folder(model: Model, change: str) -> Model:
    """`model`, its config.json and tokenizer copied to a temporary folder named after the `change`.

    The folder goes when the model's weights do, at the end of the program at the latest.
    """
    temporary = Path(mkdtemp(prefix="franken-gguf-"))
    weakref.finalize(model.weights, shutil.rmtree, temporary, ignore_errors=True)
    folder = temporary / f"{model.folder.resolve().name}+{change}"
    folder.mkdir()
    copy_tokenizer(model.folder, folder)
    shutil.copyfile(model.folder / "config.json", folder / "config.json")
    return replace(model, folder=folder)
