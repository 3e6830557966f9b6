"""The recipe field chat_template: replaces the base model's chat template.

mergekit has the field for its other merge methods. Together with tokenizer_source: union it lets
the mixture use the chat tokens that an expert was trained on.
"""

from __future__ import annotations

import shutil

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.common.json_files import read_object

from .base_copy import with_copied_files
from .config_files import TEMPLATES, write_json
from .source_models import Model


def with_chat_template(base: Model, template: str) -> Model:
    """`base` with the Jinja `template` as its only chat template. Raises TokenizerError."""
    model = with_copied_files(base, "template")
    path = model.folder / "tokenizer_config.json"
    if path.is_file():
        settings = read_object(path, TokenizerError)
        settings.pop("chat_template", None)
        write_json(path, settings)
    (model.folder / "chat_template.json").unlink(missing_ok=True)
    shutil.rmtree(model.folder / TEMPLATES, ignore_errors=True)
    (model.folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return model
