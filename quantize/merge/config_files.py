"""The merged checkpoint's files other than weights: config.json, tokenizer, model card, recipe."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.common.json_files import read_object, read_text
from franken_gguf.quantize.hub.hub_cache import folder_name

from .recipe_fields import ModelPath
from .recipe_file import MergeRecipe

RECIPE_NAME = "mergekit_moe_config.yml"
"""The name that mergekit-moe also gives the recipe in its output folder."""

_COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f`]")
TEMPLATES = "additional_chat_templates"
_MOST_TEMPLATES = 64

# Fields of Llama's and Mistral's config.json that Mixtral's lacks, or that do not hold for it.
_DROPPED = (
    "_name_or_path",
    "attention_bias",
    "auto_map",
    "mlp_bias",
    "pretraining_tp",
    "torch_dtype",
    "dtype",
)
_DTYPES = {
    GGMLQuantizationType.F32: "float32",
    GGMLQuantizationType.F16: "float16",
    GGMLQuantizationType.BF16: "bfloat16",
}


def write_config_files(
    folder: Path, recipe: MergeRecipe, base: Path, dtype: GGMLQuantizationType, name: str
) -> None:
    """Write them into the existing `folder` for a model called `name`. Raises CheckpointError.

    `base` is the base model's folder: its tokenizer is copied, and its hyperparameters, except
    those of the experts, become the mixture's. `dtype` is the type of the mixture's weights.
    """
    copy_tokenizer(base, folder)
    write_json(folder / "config.json", mixtral_config(recipe, base, dtype))
    text = read_text(recipe.path, CheckpointError)
    (folder / RECIPE_NAME).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(_card(recipe, name, text), encoding="utf-8")


def copy_tokenizer(base: Path, folder: Path) -> None:
    """Copy the tokenizer's files, chat templates and generation_config.json."""
    for file in _COPIED:
        if (base / file).is_file():
            shutil.copyfile(base / file, folder / file)
    templates = sorted((base / TEMPLATES).glob("*.jinja"))[:_MOST_TEMPLATES]
    if templates:
        (folder / TEMPLATES).mkdir()
    for template in templates:
        shutil.copyfile(template, folder / TEMPLATES / template.name)


def mixtral_config(
    recipe: MergeRecipe, folder: Path, dtype: GGMLQuantizationType
) -> dict[str, Any]:
    """config.json of the mixture, from that of the base model in `folder`.

    Fields whose defaults differ between Llama, Mistral and Mixtral are always written. Raises
    CheckpointError.
    """
    config = read_config(folder)
    fields = read_object(folder / "config.json", CheckpointError)
    kept = {key: value for key, value in fields.items() if key not in _DROPPED}
    return dict(
        sorted(
            {
                **kept,
                "architectures": ["MixtralForCausalLM"],
                "head_dim": config.head_dim,
                "max_position_embeddings": config.context_length,
                "model_type": "mixtral",
                "num_experts_per_tok": recipe.experts_used,
                "num_key_value_heads": config.kv_heads,
                "num_local_experts": len(recipe.experts),
                "output_router_logits": False,
                "rms_norm_eps": config.rms_norm_eps,
                "rope_theta": config.rope_theta,
                "router_aux_loss_coef": 0.001,
                "sliding_window": None,
                "tie_word_embeddings": config.tied,
                "torch_dtype": _DTYPES[dtype],
            }.items()
        )
    )


def _card(recipe: MergeRecipe, name: str, text: str) -> str:
    sources = list(dict.fromkeys(_display(expert.source) for expert in recipe.experts))
    listed = "\n".join(f"- {source}" for source in sources)
    fence = "~~~~"
    return f"""\
---
tags:
- merge
- moe
- mixtral
---
# {name}

A mixture of {len(recipe.experts)} experts, {recipe.experts_used} of which work on each token, made
by franken-gguf from a mergekit-moe recipe. Nothing was trained. Everything but the feed-forward
layers is from {_display(recipe.base)}; these layers are from

{listed}

The licenses of all of these models apply.

{fence}yaml
{text.strip()}
{fence}
"""


def _display(source: ModelPath) -> str:
    """The name of a model, and of its adapter, without their parent folders, in Markdown."""
    parts = [source.model, source.adapter] if source.adapter else [source.model]
    return " + ".join(f"`{_UNPRINTABLE.sub('', folder_name(part))}`" for part in parts)


def write_json(path: Path, document: object) -> None:
    """Write `document` as JSON, formatted as transformers formats it."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
