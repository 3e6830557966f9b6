"""The tokenizer that a conversion will write, held against the checkpoint's own by llama.cpp."""

from __future__ import annotations

import tempfile
from pathlib import Path

from franken_gguf.quantize.gguf_file.encode import encode_header
from franken_gguf.quantize.gguf_file.values import Metadata
from franken_gguf.quantize.tokenizer.tokenizer_check import check_parity
from franken_gguf.runner.crash.flight_recorder import recorder

from .vocabulary import load_vocabulary


def check_tokens(folder: Path, metadata: Metadata) -> None:
    """Refuse metadata whose tokenizer gives other ids than the checkpoint's own in `folder`.

    llama.cpp reads them as it will read those of the outputs: from a GGUF without tensors. Raises
    TokenizerError.
    """
    with tempfile.TemporaryDirectory(prefix="franken-gguf-") as temporary:
        file = Path(temporary) / "vocabulary.gguf"
        file.write_bytes(encode_header(metadata, []))
        with recorder.naming(str(folder)), load_vocabulary(file) as vocabulary:
            check_parity(folder, vocabulary.tokenize)
