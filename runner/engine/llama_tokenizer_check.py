"""Whether llama.cpp gives the same token ids as the checkpoint's own tokenizer."""

from __future__ import annotations

import tempfile
from pathlib import Path

from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.values import Metadata
from franken_gguf.quantize.tokenizer.tokenizer_check import check_parity
from franken_gguf.runner.crash.flight_recorder import recorder

from .vocabulary import load_vocabulary


def check_tokens(folder: Path, metadata: Metadata) -> None:
    """Compare the tokenizer in `metadata`, as llama.cpp runs it, with the checkpoint's in `folder`.

    llama.cpp reads `metadata` from a GGUF file without tensors, as it will from the outputs. Raises
    TokenizerError if the token ids differ.
    """
    with tempfile.TemporaryDirectory(prefix="franken-gguf-") as temporary:
        file = Path(temporary) / "vocabulary.gguf"
        file.write_bytes(encode_header(metadata, []))
        with recorder.naming(str(folder)), load_vocabulary(file) as vocabulary:
            check_parity(folder, vocabulary.tokenize)
