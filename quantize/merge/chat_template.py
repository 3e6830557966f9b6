"""chat_template: how a conversation becomes text, other than the base model has it.

A field of mergekit's other merges. The tokens that a union takes in are of use where a template
writes them.
"""

from __future__ import annotations

import shutil

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.common.json_files import read_object

from .base_copy import with_own_folder
from .config_files import TEMPLATES, write_json
from .source_models import Model


def with_chat_template(base: Model, template: str) -> Model:
    """The base model talking by `template`, in Jinja, and by no other. Raises TokenizerError."""
    model = with_own_folder(base, "template")
    path = model.folder / "tokenizer_config.json"
    if path.is_file():
        settings = read_object(path, TokenizerError)
        settings.pop("chat_template", None)
        write_json(path, settings)
    (model.folder / "chat_template.json").unlink(missing_ok=True)
    shutil.rmtree(model.folder / TEMPLATES, ignore_errors=True)
    (model.folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return model
