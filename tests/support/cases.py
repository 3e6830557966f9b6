"""Checkpoints that llama.cpp's converter was run on; what it wrote stands in tests/expected/.

tools/make_expectations.py runs the converter on each of these, the tests run ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.bpe_tokenizers import bpe_tokenizer, write_json
from support.checkpoints import make_checkpoint
from support.family_checkpoints import FamilyName, make_family_checkpoint
from support.sentencepiece_tokenizers import write_sentencepiece, write_sentencepiece_json

SMALL: dict[str, Any] = {"hidden": 64, "heads": 4, "kv_heads": 2, "layers": 2, "feed_forward": 96}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}

README = """---
license: apache-2.0
language:
- en
- no
base_model:
- mistralai/Mistral-7B-Instruct-v0.2
- https://huggingface.co/teknium/OpenHermes-2.5-Mistral-7B
tags:
- merge
- mergekit
pipeline_tag: text-generation
datasets: teknium/openhermes
---
# A merge
"""

GENERATION_CONFIG = {
    "_from_model_config": True,
    "bos_token_id": 1,
    "do_sample": True,
    "repetition_penalty": 1.1,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
}


def change(folder: Path, file: str, **changes: Any) -> None:
    """Set fields of a JSON file in `folder`; None removes the field."""
    path = folder / file
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    document |= changes
    write_json(path, {key: value for key, value in document.items() if value is not None})


def _mixtral(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)


def _mixtral_full(folder: Path) -> None:
    make_checkpoint(folder, experts=3, dtype="F16", transformers=4, shards=2, **SMALL)


def _two_experts_tied_with_card(folder: Path) -> None:
    make_checkpoint(folder, experts=2, tied=True, **SMALL)
    (folder / "README.md").write_text(README, encoding="utf-8")
    write_json(folder / "generation_config.json", GENERATION_CONFIG)


def _eight_experts_without_head_dim(folder: Path) -> None:
    make_checkpoint(folder, experts=8, transformers=4, **SMALL)
    origin = "cognitivecomputations/dolphin-2.7-mixtral-8x7b"
    change(folder, "config.json", head_dim=None, _name_or_path=origin)


def _llama3_rope(folder: Path) -> None:
    make_checkpoint(folder, layout="dense", **SMALL)
    change(folder, "config.json", rope_parameters=LLAMA3_ROPE, head_dim=None)


def _llama3_post_processor(folder: Path) -> None:
    """A TemplateProcessing that puts a bos in front, as Llama 3's tokenizer.json has it."""
    make_checkpoint(folder, layout="dense", tied=True, **SMALL)
    bos = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    template = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 1}}, other],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    change(
        folder,
        "tokenizer.json",
        post_processor={"type": "Sequence", "processors": [byte_level, template]},
    )
    change(folder, "tokenizer_config.json", bos_token="<|endoftext|>", add_eos_token=False)


def _mistral_linear(folder: Path) -> None:
    make_checkpoint(
        folder, layout="dense", dense_class="MistralForCausalLM", transformers=4, **SMALL
    )
    change(folder, "config.json", rope_scaling={"type": "linear", "factor": 4.0})


def _yarn(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)
    yarn = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "attention_factor": 0.9,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
    }
    change(folder, "config.json", rope_parameters=yarn)


def _templates_everywhere(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)
    change(folder, "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.jinja").write_text("{{ messages }}\n", encoding="utf-8")
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool use.jinja").write_text("{{ tools }}", encoding="utf-8")


def _template_list(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)
    named = [
        {"name": "default", "template": "{{ messages }}"},
        {"name": "rag", "template": "{{ documents }}"},
    ]
    change(folder, "tokenizer_config.json", chat_template=named)


def _template_json(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)
    change(folder, "tokenizer_config.json", chat_template=None)
    write_json(folder / "chat_template.json", {"chat_template": "{{ messages }}"})


def _added_tokens_of_every_kind(folder: Path) -> None:
    """Added tokens: special or not, normalized or not, one that only looks special."""
    make_checkpoint(folder, **SMALL)
    document = bpe_tokenizer()
    count = len(document["model"]["vocab"])
    kinds = (
        ("<|tool|>", False, False),
        ("<note>", False, True),
        ("▁wide", False, True),
        ("[CTRL]", True, True),
    )
    for n, (content, special, normalized) in enumerate(kinds):
        flags = {"single_word": False, "lstrip": False, "rstrip": False}
        flags |= {"normalized": normalized, "special": special}
        document["added_tokens"].append({"id": count + n, "content": content, **flags})
    document["model"]["merges"] = [m.split(" ") for m in document["model"]["merges"]]
    write_json(folder / "tokenizer.json", document)


def _sentencepiece(folder: Path) -> None:
    make_checkpoint(folder, vocab=1200, **SMALL)
    (folder / "tokenizer.json").unlink()
    write_sentencepiece(folder)


def _sentencepiece_chatml(folder: Path) -> None:
    """A dolphin-like merge: ChatML tokens added after the base vocabulary, then padding."""
    make_checkpoint(folder, vocab=1200, **SMALL)
    (folder / "tokenizer.json").unlink()
    size = write_sentencepiece(folder)
    write_json(folder / "added_tokens.json", {"<|im_end|>": size, "<|im_start|>": size + 1})
    decoder = {
        "0": {"content": "<unk>", "special": True},
        "1": {"content": "<s>", "special": True},
        "2": {"content": "</s>", "special": True},
        str(size): {"content": "<|im_end|>", "special": True},
        str(size + 1): {"content": "<|im_start|>", "special": False},
        str(size + 2): {"content": "▁note", "special": False},
        "5000": {"content": "<beyond>", "special": True},
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "added_tokens_decoder": decoder,
            "bos_token": "<s>",
            "eos_token": "<|im_end|>",
            "unk_token": {"content": "<unk>"},
            "pad_token": None,
            "tokenizer_class": "LlamaTokenizer",
        },
    )


def _sentencepiece_both(folder: Path) -> None:
    """tokenizer.model beside a tokenizer.json: the model gives the tokens, the JSON the roles."""
    make_checkpoint(folder, vocab=1200, **SMALL)
    write_sentencepiece(folder)
    write_sentencepiece_json(folder)


def _family(name: FamilyName, **changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        make_family_checkpoint(folder, name, **changes)

    return write


def _qwen2_yarn(folder: Path) -> None:
    """Qwen2.5 with the long context that its model card describes."""
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    make_family_checkpoint(folder, "qwen2", tie_word_embeddings=True, rope_scaling=yarn)


def _deepseek_sentencepiece(folder: Path) -> None:
    """mergekit-moe's DeepSeek from a Mistral model: SentencePiece, experts in every layer."""
    make_family_checkpoint(
        folder,
        "deepseek",
        first_k_dense_replace=0,
        n_shared_experts=1,
        head_dim=16,
        vocab_size=1200,
    )
    (folder / "tokenizer.json").unlink()
    write_sentencepiece(folder)


CASES: dict[str, Callable[[Path], None]] = {
    "Tiny-Mixtral-4x1M-Instruct-v0.2": _mixtral,
    "mixtral_three_f16": _mixtral_full,
    "two experts tied with card": _two_experts_tied_with_card,
    "eight-experts": _eight_experts_without_head_dim,
    "llama3-rope": _llama3_rope,
    "llama3-post-processor": _llama3_post_processor,
    "mistral-linear": _mistral_linear,
    "yarn": _yarn,
    "templates-everywhere": _templates_everywhere,
    "template-list": _template_list,
    "template-json": _template_json,
    "added-tokens": _added_tokens_of_every_kind,
    "sentencepiece": _sentencepiece,
    "sentencepiece-chatml": _sentencepiece_chatml,
    "sentencepiece-both": _sentencepiece_both,
    "Qwen2.5-0.1B": _family("qwen2"),
    "Qwen2-tied-yarn": _qwen2_yarn,
    "Qwen3-0.1B": _family("qwen3"),
    "Qwen2-MoE": _family("qwen2_moe"),
    "Qwen3-MoE": _family("qwen3_moe"),
    "Qwen3-MoE-fused": _family("qwen3_moe", fused=True, num_experts=None, num_local_experts=4),
    "deepseek-moe": _family("deepseek"),
    "deepseek-sentencepiece": _deepseek_sentencepiece,
}
"""Folder name -> what writes the checkpoint. The names matter: general.name comes from them."""
