"""Reads a recipe: mergekit-moe's YAML, with some fields of ours, into a MergeRecipe.

    base_model: Mistral-7B-v0.1       # everything except the experts: a folder, or folder+adapter
    gate_mode: hidden                 # balanced, trained, cheap_embed, random, uniform_random
    dtype: bfloat16                   # default: the base model's
    experts_per_token: 2
    architecture: qwen                # Mixtral, DeepSeek, Qwen or Qwen3; see output_family.py
    tokenizer_source: base            # or union: also the tokens that only experts have
    chat_template: chatml             # or a Jinja template; default: the base model's
    calibration_text: tales.txt       # balanced, trained: the text on which load is balanced
    load_bound: 0.25                  # balanced, trained: how far a load may be from the average
    experts:
      - source_model: dolphin-2.1     # a folder, a GGUF file, or either with +adapter
        positive_prompts: [...]       # what this expert is for (hidden, cheap_embed)
        negative_prompts: [...]       # optional, as are the next two
        noise_scale: 0.0
        residual_scale: 1.0
    shared_experts:                   # at most one, with the same fields
      - source_model: Qwen2.5-7B
        residual_scale: 0.1

Paths are relative to the recipe's folder or else, as in mergekit, to the current one. Models can
also be named as on the Hugging Face Hub, org/name, if they are in its cache on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from franken_gguf.quantize.common.errors import shown
from franken_gguf.quantize.hub.hub_cache import find_cached

from .recipe_document import recipe_document
from .recipe_fields import MOST_PROMPTS, Fields, FindModel, ModelPath

HIDDEN, BALANCED, TRAINED, CHEAP_EMBED, RANDOM, UNIFORM_RANDOM = GATE_MODES = (
    "hidden",
    "balanced",
    "trained",
    "cheap_embed",
    "random",
    "uniform_random",
)
BASE, UNION = TOKENIZER_SOURCES = "base", "union"
CHAT_TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
_FITTED = (BALANCED, TRAINED)
_WITH_PROMPTS = (HIDDEN, *_FITTED, CHEAP_EMBED)

_DTYPES = {
    "float32": GGMLQuantizationType.F32,
    "fp32": GGMLQuantizationType.F32,
    "float16": GGMLQuantizationType.F16,
    "fp16": GGMLQuantizationType.F16,
    "bfloat16": GGMLQuantizationType.BF16,
    "bf16": GGMLQuantizationType.BF16,
}
_FIELDS = (
    "base_model",
    "experts",
    "gate_mode",
    "dtype",
    "experts_per_token",
    "tokenizer_source",
    "chat_template",
    "calibration_text",
    "load_bound",
    "shared_experts",
    "architecture",
)
_EXPERT_FIELDS = (
    "source_model",
    "positive_prompts",
    "negative_prompts",
    "noise_scale",
    "residual_scale",
)
_MOST_EXPERTS = 64
_MOST_TEMPLATE = 1 << 16  # characters
_LOAD_BOUND, _LEAST_BOUND = 0.25, 0.01


@dataclass(frozen=True)
class ExpertRecipe:
    """One expert; its feed-forward layers come from `source`."""

    source: ModelPath
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    noise_scale: float = 0.0
    """Standard deviation of the normal noise that is added to its weights."""
    residual_scale: float = 1.0
    """Factor that its down projection is multiplied by."""


@dataclass(frozen=True)
class MergeRecipe:
    """A checked recipe file."""

    path: Path
    base: ModelPath
    experts: tuple[ExpertRecipe, ...]
    gate_mode: str
    dtype: GGMLQuantizationType | None
    experts_used: int
    tokenizer_source: str = BASE
    chat_template: str | None = None
    """In Jinja; None keeps the base model's."""
    calibration_text: Path | None = None
    load_bound: float = _LOAD_BOUND
    """How far an expert's load may be from the average, as a share of the average."""
    shared: tuple[ExpertRecipe, ...] = ()
    """The expert that works on every token."""
    architecture: str | None = None
    """The start of mergekit's name of the family to make; None for the first that fits."""

    @property
    def runs_the_base(self) -> bool:
        """Whether the router's rows are made from states of the base model."""
        return self.gate_mode in (HIDDEN, *_FITTED)

    @property
    def fits_rows(self) -> bool:
        """Whether the router's rows are fitted to the prompts; trained ones are so at first."""
        return self.gate_mode in _FITTED

    @property
    def trains_rows(self) -> bool:
        """Whether the router's rows are trained by running the mixture."""
        return self.gate_mode == TRAINED

    @property
    def prompt_count(self) -> int:
        """The number of prompts, of all experts together."""
        experts = self.experts + self.shared
        return sum(len(expert.positive + expert.negative) for expert in experts)

    @property
    def has_prompts(self) -> bool:
        """Whether the router's rows are made from prompts."""
        return self.gate_mode in _WITH_PROMPTS


def read_recipe(path: Path, find: FindModel = find_cached) -> MergeRecipe:
    """Read and check a recipe and that its models exist.

    `find` finds those that are named as on the Hub. Raises MergeError, HubError, OSError.
    """
    fields = Fields(path, "", recipe_document(path), _FIELDS, find)
    gate_mode = _one_of(fields, "gate_mode", GATE_MODES, default=HIDDEN)
    entries = fields.get("experts")
    if not isinstance(entries, list) or not 2 <= len(entries) <= _MOST_EXPERTS:
        count = f", not {len(entries)}" if isinstance(entries, list) else ""
        raise fields.error(f"experts: must be a list of 2 to {_MOST_EXPERTS} experts{count}")
    experts = _experts(fields, "experts", entries, find)
    shared = fields.get("shared_experts", [])
    if not isinstance(shared, list) or len(shared) > 1:
        raise fields.error("shared_experts: must be a list of at most one expert")
    used = fields.get("experts_per_token", 2)
    if type(used) is not int or not 1 <= used <= len(experts):
        raise fields.error(
            f"experts_per_token: {shown(used)} is not from 1 to {len(experts)}, the number of "
            "experts"
        )
    tokenizer = _one_of(fields, "tokenizer_source", TOKENIZER_SOURCES, default=BASE)
    base = fields.model("base_model")
    text = fields.file("calibration_text")
    bound = fields.number("load_bound", _LOAD_BOUND)
    if (text or fields.get("load_bound") is not None) and gate_mode not in _FITTED:
        raise fields.error("calibration_text and load_bound need gate_mode: balanced or trained")
    if not _LEAST_BOUND <= bound <= 1:
        raise fields.error(f"load_bound: {bound:g} is not from {_LEAST_BOUND} to 1")
    recipe = MergeRecipe(
        path,
        base,
        experts,
        gate_mode,
        _dtype(fields),
        used,
        tokenizer,
        _chat_template(fields),
        text,
        bound,
        _experts(fields, "shared_experts", shared, find),
        _architecture(fields),
    )
    if recipe.has_prompts:
        _check_prompts(fields, recipe)
    return recipe


def _one_of(fields: Fields, key: str, known: tuple[str, ...], *, default: str) -> str:
    value = fields.get(key) or default
    if value not in known:
        raise fields.error(f"{key}: {shown(value)} is unknown; choose {', '.join(known)}")
    return str(value)


def _experts(
    fields: Fields, key: str, entries: list[Any], find: FindModel
) -> tuple[ExpertRecipe, ...]:
    return tuple(
        _expert(Fields(fields.path, f"{key}[{n}]", entry, _EXPERT_FIELDS, find))
        for n, entry in enumerate(entries)
    )


def _architecture(fields: Fields) -> str | None:
    value = fields.get("architecture")
    if value is not None and not isinstance(value, str):
        raise fields.error(f"architecture: {shown(value)} is not a name; write it in quotes")
    return value or None


def _expert(fields: Fields) -> ExpertRecipe:
    return ExpertRecipe(
        fields.model("source_model"),
        fields.prompts("positive_prompts"),
        fields.prompts("negative_prompts"),
        fields.number("noise_scale", 0.0),
        fields.number("residual_scale", 1.0),
    )


def _chat_template(fields: Fields) -> str | None:
    value = fields.get("chat_template")
    if value is None:
        return None
    text = CHAT_TEMPLATES.get(value, value) if isinstance(value, str) else ""
    if "{" not in text or len(text) > _MOST_TEMPLATE:
        raise fields.error(
            f"chat_template: {shown(value)} is not a template; write "
            f"{' or '.join(CHAT_TEMPLATES)}, or a template in Jinja"
        )
    return text


def _dtype(fields: Fields) -> GGMLQuantizationType | None:
    dtype = fields.get("dtype")
    if dtype is None:
        return None
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise fields.error(f"dtype: {shown(dtype)} is unknown; choose float32, float16 or bfloat16")
    return found


def _check_prompts(fields: Fields, recipe: MergeRecipe) -> None:
    for n, expert in enumerate(recipe.experts):
        if not expert.positive:
            raise fields.error(
                f"experts[{n}]: has no positive_prompts, which gate_mode {recipe.gate_mode} needs; "
                "write some, or use gate_mode random"
            )
    if (count := recipe.prompt_count) > MOST_PROMPTS:
        raise fields.error(f"experts: {count:,} prompts in all; write at most {MOST_PROMPTS:,}")
    ignores_negative = recipe.fits_rows
    prompts = {
        (expert.positive, () if ignores_negative else expert.negative) for expert in recipe.experts
    }
    if len(prompts) == 1:
        raise fields.error(
            "experts: all have the same prompts, so the router cannot tell them apart; describe "
            "each expert by prompts of its own"
        )
