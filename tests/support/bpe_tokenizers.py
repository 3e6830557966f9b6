"""Small BPE tokenizers with nothing left to chance: the same files wherever they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = """
the and of to in that it was he for as with his on be at by had not are but from have they
you which were her all she there would their him been has when who will more no if out so
said what up its about into than them can only other new some could time these two may
then do first any my now such like our over man me even most made after also did many
before must years where much your way well down should each just those
people mister how too little state good very make world still own see men work long get
here both life being under never day same another know while last might us great
old year off come since go came right used take three moon letter rocket harbour
keeper light ship choose eternal mortal explain
"""

# What pre-tokenizers differ on: digits, contractions, line ends beside punctuation, runs of spaces.
PIECES = "12 123 1234 ĊĊ ĊĊĊ :Ċ ;Ċ {Ċ 'll 't 's !! !!! ?? ... (i ĠĠ ĠĠĠĠ ,000"

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    """Pre-tokenizers one after the other."""
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(regex: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts around what a regular expression finds."""
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = BYTES | {"use_regex": False}
SMOLLM = sequence(DIGITS, BYTES)
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = sequence(split(LLAMA3_REGEX), NO_REGEX)
QWEN2 = sequence(split(LLAMA3_REGEX.replace("{1,3}", "")), NO_REGEX)


def byte_alphabet() -> list[str]:
    """GPT-2's 256 printable stand-ins for the bytes, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table |= {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def word_merges() -> list[tuple[str, str]]:
    """Merges that spell WORDS, bare and after a space, and PIECES, from left to right."""
    words = WORDS.split()
    merges: dict[tuple[str, str], None] = {}
    for word in [*words, *("Ġ" + word for word in words), *PIECES.split()]:
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
        "pre_tokenizer": SMOLLM,
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


QWEN_TOKENS = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<think>": False,
    "</think>": False,
}
"""Added tokens of a Qwen tokenizer, after its vocabulary; whether each is special."""

QWEN3_TEMPLATE = (
    "{%- set ns = namespace(last=-1) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
"""ChatML that drops the thinking of earlier answers and knows `enable_thinking`, as Qwen3's."""

R1_TEMPLATE = (
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)
"""ChatML that opens thoughts before an answer and drops earlier ones, as R1's and QwQ's."""


def write_qwen_tokenizer(folder: Path) -> int:
    """Write a tokenizer of Qwen's kind, with its template; returns the number of tokens."""
    document = bpe_tokenizer(())
    size = len(document["model"]["vocab"])
    document["added_tokens"] = [
        {
            "id": size + n,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": special,
        }
        for n, (content, special) in enumerate(QWEN_TOKENS.items())
    ]
    document["normalizer"] = {"type": "NFC"}
    document["pre_tokenizer"] = QWEN2
    document["model"]["merges"] = [merge.split(" ") for merge in document["model"]["merges"]]
    write_json(folder / "tokenizer.json", document)
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(entry["id"]): {key: entry[key] for key in entry if key != "id"}
            for entry in document["added_tokens"]
        },
        "bos_token": None,
        "chat_template": QWEN3_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)
    return size + len(QWEN_TOKENS)
