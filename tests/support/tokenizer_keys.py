"""What tokenizer_metadata makes of a folder: its GGUF keys, or the one line of its error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.common.errors import TokenizerError
from franken_gguf.quantize.tokenizer.tokenizer_keys import tokenizer_metadata

VOCAB = 1200
CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB}


def keys(folder: Path, vocab_size: int = VOCAB) -> dict[str, Any]:
    """The values of the keys, named without "tokenizer." and "ggml."."""
    return {
        key.removeprefix("tokenizer.").removeprefix("ggml."): value.data
        for key, value in tokenizer_metadata(folder, vocab_size).items()
    }


def error_of(folder: Path, vocab_size: int = VOCAB) -> str:
    """The error, which names a file of `folder` and cannot steer a terminal."""
    with pytest.raises(TokenizerError) as caught:
        tokenizer_metadata(folder, vocab_size)
    line = str(caught.value)
    assert str(folder) in line
    assert line.isprintable()
    return line
