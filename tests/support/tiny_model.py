"""A mixture of four tiny experts with random weights: for tests of what is around a model."""

from __future__ import annotations

import json
from pathlib import Path

from support.bpe_tokenizers import CHATML
from support.checkpoints import make_checkpoint
from support.conversions import converted


def tiny_gguf(folder: Path, chat_template: str = CHATML) -> Path:
    """A Q8_0 file of 4 MB made in `folder`; it writes nonsense at a thousand tokens a second."""
    checkpoint = make_checkpoint(folder / "tiny")
    config = checkpoint / "tokenizer_config.json"
    members = json.loads(config.read_text()) | {"chat_template": chat_template}
    config.write_text(json.dumps(members))
    (path,) = converted(checkpoint, folder / "converted", ["Q8_0"])
    return path
