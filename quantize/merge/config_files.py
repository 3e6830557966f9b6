"""The merged checkpoint's files other than weights: config.json, tokenizer, model card, recipe."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.families.family import Family
from franken_gguf.quantize.checkpoint.model_config import ModelConfig
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.common.json_files import read_object, read_text
from franken_gguf.quantize.hub.hub_cache import folder_name
from franken_gguf.quantize.hub.needed_files import TOKENIZER_FILES

from .mixture_tensors import MergedWeights
from .recipe_fields import ModelPath
from .recipe_file import MergeRecipe

RECIPE_NAME = "mergekit_moe_config.yml"
"""The name that mergekit-moe also gives the recipe in its output folder."""

_COPIED = (*TOKENIZER_FILES, "generation_config.json")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f`]")
TEMPLATES = "additional_chat_templates"
_MOST_TEMPLATES = 64

# Fields of a dense model's config.json that a mixture's lacks, or that do not hold for it.
_DROPPED = (
    "_name_or_path",
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
    folder: Path, recipe: MergeRecipe, base: Path, weights: MergedWeights, name: str
) -> None:
    """Write them into the existing `folder` for a model called `name`. Raises CheckpointError.

    `base` is the base model's folder: its tokenizer is copied, and its hyperparameters, except
    those of the experts, become the mixture's, whose tensors are `weights`.
    """
    copy_tokenizer(base, folder)
    write_json(folder / "config.json", mixture_config(recipe, base, weights))
    text = read_text(recipe.path, CheckpointError)
    (folder / RECIPE_NAME).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(_card(recipe, weights.family, name, text), encoding="utf-8")


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


def mixture_config(recipe: MergeRecipe, folder: Path, weights: MergedWeights) -> dict[str, Any]:
    """config.json of the mixture, from that of the base model in `folder`.

    Fields whose defaults differ between the families are always written. Raises CheckpointError.
    """
    config, family = read_config(folder), weights.family
    assert family.merge is not None
    fields = read_object(folder / "config.json", CheckpointError)
    dropped = _DROPPED if family.merge.biases else (*_DROPPED, "attention_bias")
    kept = {key: value for key, value in fields.items() if key not in dropped}
    if config.states_head_dim:
        kept["head_dim"] = config.head_dim
    return dict(
        sorted(
            {
                **kept,
                **family.merge.config,
                **_expert_fields(recipe, config, family),
                "architectures": [family.class_name],
                "max_position_embeddings": config.context_length,
                "model_type": family.model_type,
                "num_key_value_heads": config.kv_heads,
                "rms_norm_eps": config.rms_norm_eps,
                "rope_theta": config.rope_theta,
                "tie_word_embeddings": config.tied,
                "torch_dtype": _DTYPES[weights.stored_as],
            }.items()
        )
    )


def _expert_fields(recipe: MergeRecipe, config: ModelConfig, family: Family) -> dict[str, Any]:
    """The numbers and widths of the experts."""
    experts = family.experts
    assert experts is not None
    fields: dict[str, Any] = {
        "num_experts_per_tok": recipe.experts_used,
        experts.count[0]: len(recipe.experts),
        experts.width: config.feed_forward,
    }
    if (shared := experts.shared) is not None:
        if shared.width:
            fields[shared.width] = config.feed_forward
        if shared.count:
            fields[shared.count] = len(recipe.shared)
    return fields


def _card(recipe: MergeRecipe, family: Family, name: str, text: str) -> str:
    experts = recipe.experts + recipe.shared
    sources = list(dict.fromkeys(_display(expert.source) for expert in experts))
    listed = "\n".join(f"- {source}" for source in sources)
    fence = "~~~~"
    return f"""\
---
tags:
- merge
- moe
- {family.model_type}
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
