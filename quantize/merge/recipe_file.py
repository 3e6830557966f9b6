"""mergekit-moe's YAML, as far as it describes a Mixtral, to one checked MergeRecipe.

    base_model: Mistral-7B-v0.1       # all but the experts: a folder, or folder+adapter
    gate_mode: hidden                 # or balanced, cheap_embed, random, uniform_random
    dtype: bfloat16                   # default: the base model's
    experts_per_token: 2
    tokenizer_source: base            # or union, with the tokens that experts have beyond it
    experts:
      - source_model: dolphin-2.1     # a folder, a GGUF file, or either with +adapter
        positive_prompts: [...]       # what this expert is for (hidden, cheap_embed)
        negative_prompts: [...]       # optional, and the rest too
        noise_scale: 0.0
        residual_scale: 1.0

A path is taken from the recipe's own folder, or from the current one as mergekit does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from franken_gguf.quantize.errors import MergeError
from franken_gguf.quantize.yaml_files import read_yaml

HIDDEN, BALANCED, CHEAP_EMBED, RANDOM, UNIFORM_RANDOM = GATE_MODES = (
    "hidden",
    "balanced",
    "cheap_embed",
    "random",
    "uniform_random",
)
BASE, UNION = TOKENIZER_SOURCES = "base", "union"
_WITH_PROMPTS = (HIDDEN, BALANCED, CHEAP_EMBED)

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
_MAX_BYTES = 1 << 20
_MOST_EXPERTS = 64
_MOST_PROMPTS = 1024
_MOST_CHARACTERS = 1 << 16
_LARGEST = 1000.0


@dataclass(frozen=True)
class ModelPath:
    """What a recipe calls a model: a folder or GGUF file, and an adapter on top of it."""

    model: Path
    adapter: Path | None = None

    def __str__(self) -> str:
        return f"{self.model}+{self.adapter}" if self.adapter else str(self.model)


@dataclass(frozen=True)
class ExpertRecipe:
    """One expert: its feed-forward layers come from `source`."""

    source: ModelPath
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    noise_scale: float = 0.0
    """Standard deviation of what is added to its weights."""
    residual_scale: float = 1.0
    """Factor of its down projection."""


@dataclass(frozen=True)
class MergeRecipe:
    """What a recipe file says."""

    path: Path
    base: ModelPath
    experts: tuple[ExpertRecipe, ...]
    gate_mode: str
    dtype: GGMLQuantizationType | None
    experts_used: int
    tokenizer_source: str = BASE

    @property
    def has_prompts(self) -> bool:
        """Whether the gate rows are made from prompts."""
        return self.gate_mode in _WITH_PROMPTS


def read_recipe(path: Path) -> MergeRecipe:
    """Read and check a recipe; every model in it is there. Raises MergeError, OSError."""
    fields = _Fields(path, "", read_yaml(path, MergeError, _MAX_BYTES), _FIELDS)
    if fields.get("shared_experts"):
        raise fields.error("shared_experts: a Mixtral has none; take them out")
    architecture = fields.get("architecture")
    # As mergekit compares it: mix, mixtral and Mixtral are the same.
    if architecture and not "mixtral".startswith(str(architecture).lower()):
        raise fields.error(f"architecture: no {_shown(architecture)}; only Mixtral is made here")
    gate_mode = fields.get("gate_mode") or HIDDEN
    if gate_mode not in GATE_MODES:
        raise fields.error(f"gate_mode: no {_shown(gate_mode)}; there are {', '.join(GATE_MODES)}")
    entries = fields.get("experts")
    if not isinstance(entries, list) or not 2 <= len(entries) <= _MOST_EXPERTS:
        count = f"{len(entries)} are" if isinstance(entries, list) else "none is"
        raise fields.error(f"experts: 2 to {_MOST_EXPERTS} make a mixture, and {count} listed")
    experts = tuple(
        _expert(_Fields(path, f"experts[{n}]", entry, _EXPERT_FIELDS))
        for n, entry in enumerate(entries)
    )
    used = fields.get("experts_per_token", 2)
    if type(used) is not int or not 1 <= used <= len(experts):
        raise fields.error(
            f"experts_per_token: {_shown(used)}; there are {len(experts)} experts, write 1 to that"
        )
    tokenizer = fields.get("tokenizer_source") or BASE
    if tokenizer not in TOKENIZER_SOURCES:
        raise fields.error(
            f"tokenizer_source: no {_shown(tokenizer)}; there are {' and '.join(TOKENIZER_SOURCES)}"
        )
    base = fields.model("base_model")
    recipe = MergeRecipe(path, base, experts, gate_mode, _dtype(fields), used, tokenizer)
    if recipe.has_prompts:
        _check_prompts(fields, recipe)
    return recipe


def _expert(fields: _Fields) -> ExpertRecipe:
    return ExpertRecipe(
        fields.model("source_model"),
        fields.prompts("positive_prompts"),
        fields.prompts("negative_prompts"),
        fields.number("noise_scale", 0.0),
        fields.number("residual_scale", 1.0),
    )


def _dtype(fields: _Fields) -> GGMLQuantizationType | None:
    dtype = fields.get("dtype")
    if dtype is None:
        return None
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise fields.error(f"dtype: no {_shown(dtype)}; there are float32, float16 and bfloat16")
    return found


def _check_prompts(fields: _Fields, recipe: MergeRecipe) -> None:
    for n, expert in enumerate(recipe.experts):
        if not expert.positive:
            raise fields.error(
                f"experts[{n}]: has no positive_prompts, which gate_mode {recipe.gate_mode} needs; "
                "write some, or take gate_mode random"
            )
    if len({(expert.positive, expert.negative) for expert in recipe.experts}) == 1:
        raise fields.error(
            "experts: all have the same prompts, so no router could tell them apart; write for "
            "each what it is to be asked"
        )


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def expert_names(path: Path) -> tuple[str, ...]:
    """What the experts of a recipe may be called: each its adapter's, or its model's, name.

    Raises MergeError, OSError.
    """
    sources = [expert.source for expert in read_recipe(path).experts]
    return tuple((source.adapter or source.model).name for source in sources)


class _Fields:
    """One mapping of a recipe, and the checks on its values."""

    def __init__(self, path: Path, where: str, values: Any, known: tuple[str, ...]) -> None:
        self._path = path
        self._where = f"{where}: " if where else ""
        if not isinstance(values, dict):
            raise self.error(f"holds no mapping; write {known[0]}: ...")
        for key in values:
            if key not in known:
                raise self.error(f"unknown field {_shown(key)}; there are {', '.join(known)}")
        self._values = values

    def error(self, problem: str) -> MergeError:
        return MergeError(f"{self._path}: {self._where}{problem}")

    def get(self, key: str, default: object = None) -> Any:
        value = self._values.get(key)
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        value = self.get(key, default)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) <= _LARGEST:  # NaN is no less than anything
            raise self.error(f"{key}: {_shown(value)} is no number from -1000 to 1000")
        return float(value)

    def prompts(self, key: str) -> tuple[str, ...]:
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > _MOST_PROMPTS:
            raise self.error(f"{key}: must be a list of at most {_MOST_PROMPTS} texts")
        for text in value:
            if not isinstance(text, str) or not text or len(text) > _MOST_CHARACTERS:
                raise self.error(
                    f"{key}: each must be a text of 1 to {_MOST_CHARACTERS} characters; put it in "
                    "quotes where YAML reads a number or yes and no"
                )
        return tuple(value)

    def model(self, key: str) -> ModelPath:
        value = self.get(key)
        # mergekit writes long forms too: {model: {path: ...}, lora: ...}.
        if not isinstance(value, str) or not value:
            raise self.error(f"{key}: must be the path of a model")
        if (whole := self._found(value)) is not None:
            return ModelPath(whole)
        model, plus, adapter = value.rpartition("+")
        for part in (model, adapter) if plus else (value,):
            if self._found(part) is None:
                raise self.error(
                    f"{key}: {_shown(part)}: no such folder or file; models are not downloaded "
                    "here, fetch it and give its path"
                )
        return ModelPath(self._found(model) or Path(), self._found(adapter))

    def _found(self, text: str) -> Path | None:
        path = Path(text).expanduser()
        candidates = (self._path.parent / path, path)
        try:
            return next((one for one in candidates if one.exists()), None)
        except (OSError, ValueError):  # too long, or a null byte
            return None
