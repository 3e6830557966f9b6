"""Small tokenizers with nothing left to chance: the same files wherever they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = """
the and of to in that it was he for as with his on be at by had not are but from have they
you which were her all she there would their him been has when who will more no if out so
said what up its about into than them can only other new some could time these two may
then do first any my now such like our over man me even most made after also did many
before must through years where much your way well down should because each just those
people mister how too little state good very make world still own see men work long get
here between both life being under never day same another know while last might us great
old year off come since against go came right used take three moon letter rocket harbour
keeper light ship choose eternal mortal explain
"""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

SMOLLM_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def byte_alphabet() -> list[str]:
    """GPT-2's 256 printable stand-ins for the bytes, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table |= {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def word_merges() -> list[tuple[str, str]]:
    """Merges that spell each word of WORDS, bare and after a space, from left to right."""
    words = WORDS.split()
    merges: dict[tuple[str, str], None] = {}
    for word in [*words, *("Ġ" + word for word in words)]:
        left = word[0]
        for letter in word[1:]:
            merges[left, letter] = None
            left += letter
    return list(merges)


def bpe_tokenizer(special_tokens: tuple[str, ...] = SPECIAL_TOKENS) -> dict[str, Any]:
    """A byte-level tokenizer.json with SmolLM2's pre-tokenizer; special tokens come first."""
    merges = word_merges()
    tokens = dict.fromkeys([*special_tokens, *byte_alphabet(), *(a + b for a, b in merges)])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id_,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for id_, content in enumerate(special_tokens)
        ],
        "normalizer": None,
        "pre_tokenizer": SMOLLM_PRE_TOKENIZER,
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
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
            "merges": [f"{a} {b}" for a, b in merges],
        },
    }


def bpe_tokenizer_config() -> dict[str, Any]:
    """The tokenizer_config.json of bpe_tokenizer(): ChatML, no tokens added around text."""
    return {
        "add_prefix_space": False,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHATML,
        "model_max_length": 2048,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write_json(path: Path, document: object) -> None:
    """Write a JSON document as the Hugging Face libraries do: UTF-8, indented."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_bpe_tokenizer(folder: Path) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the number of tokens."""
    tokenizer = bpe_tokenizer()
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", bpe_tokenizer_config())
    return len(tokenizer["model"]["vocab"])
