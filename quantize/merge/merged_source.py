"""A merge recipe as a source: rows of the mixture are computed on demand, never stored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.hf_source import CheckpointSource
from franken_gguf.quantize.common.errors import MergeError

from .chat_template import with_chat_template
from .config_files import write_config_files
from .extended_vocab import EMBEDDINGS
from .lora import LoraWeights
from .mixture_tensors import MergedWeights
from .output_family import output_family
from .recipe_file import UNION, MergeRecipe, read_recipe
from .router import Router
from .source_models import Model, check_fits, open_model
from .token_union import with_union
from .token_vocabulary import listed, vocabulary_notices


class MergedSource(CheckpointSource):
    """The mixture of a recipe. Call `route` before reading rows."""

    def __init__(
        self,
        folder: Path,
        recipe: MergeRecipe,
        base: Model,
        weights: MergedWeights,
        added_tokens: Sequence[str] = (),
    ) -> None:
        """`folder` holds the files of config_files.write_config_files; it is read here only."""
        super().__init__(folder, weights, name=recipe.path.stem, tokenizer_folder=base.folder)
        self.base_folder = base.folder
        self.recipe = recipe
        self.weights = weights
        self.added_tokens = added_tokens
        """The tokens that a union adds to the base model."""
        self.router = Router(recipe, base, weights.family)
        self._base = base

    @property
    def fingerprint(self) -> bytes:
        """A hash of the router's rows, which also depend on how the base model was run."""
        rows = self.weights.rows
        return b"" if rows is None else hashlib.sha256(rows.tobytes()).digest()

    def vocabulary_notices(self) -> list[str]:
        """A line for each difference between the models' vocabularies."""
        recipe = self.recipe
        if recipe.tokenizer_source != UNION:
            experts = [expert.source.model for expert in recipe.experts + recipe.shared]
            return vocabulary_notices(recipe.base.model, experts)
        if not self.added_tokens:
            return []
        added = self.added_tokens
        count = f"{len(added):,} {'token' if len(added) == 1 else 'tokens'}"
        return [f"{recipe.path}: {count} added to the base model's vocabulary ({listed(added)})"]

    def base_source(self) -> CheckpointSource:
        """The dense base model, from whose states the router is made. Raises a FrankenError."""
        return CheckpointSource(self.base_folder, self._base.weights)

    def route(self, states: Sequence[F32] = ()) -> None:
        """Make the router's rows; `states` are those of `router.prompts()`, see Router.rows."""
        self.weights.rows, notices = self.router.rows(states)
        self.notices += notices

    def retrain(self, rows: F32) -> None:
        """Replace the experts' rows, [layers, experts, hidden], by trained ones."""
        assert self.weights.rows is not None
        self.weights.rows[:, : rows.shape[1]] = rows


def merge_source(path: Path) -> MergedSource:
    """The source that the recipe `path` describes. Reads only headers and tokenizer files.

    Raises MergeError if the models do not fit together, or another FrankenError of reading them.
    """
    recipe = read_recipe(path)
    if not recipe.base.model.is_dir():
        raise MergeError(
            f"{recipe.base.model}: base_model must be a Hugging Face folder, for its config.json "
            "and tokenizer; only experts can be GGUF files"
        )
    all_experts = recipe.experts + recipe.shared
    paths = dict.fromkeys([recipe.base, *(expert.source for expert in all_experts)])
    models = {model_path: open_model(model_path) for model_path in paths}
    base = models[recipe.base]
    family = output_family(recipe, list(models.values()))
    for expert in all_experts:
        check_fits(models[expert.source], base)
        _check_adapter(models[expert.source])
    _check_base_adapter(base, recipe)
    if EMBEDDINGS not in base.weights.shapes:
        raise MergeError(f"{base.path}: tensor {EMBEDDINGS!r} is missing; download it again")
    added_tokens: list[str] = []
    if recipe.tokenizer_source == UNION:
        base, added_tokens = with_union(base, list(models.values()))
    if recipe.chat_template:
        base = with_chat_template(base, recipe.chat_template)
    dtype = base.weights.dtype(EMBEDDINGS) if recipe.dtype is None else recipe.dtype
    experts, shared = (
        [(expert, models[expert.source]) for expert in group]
        for group in (recipe.experts, recipe.shared)
    )
    weights = MergedWeights(path, family, base, experts, shared, dtype)
    with TemporaryDirectory(prefix="franken-gguf-") as temporary:
        folder = Path(temporary) / (path.stem if path.stem.strip(".") else "model")
        folder.mkdir()
        write_config_files(folder, recipe, base.folder, weights, path.stem)
        source = MergedSource(folder, recipe, base, weights, added_tokens)
    if not recipe.runs_the_base:
        source.route()
    return source


def _check_adapter(model: Model) -> None:
    if isinstance(model.weights, LoraWeights) and not any(map(_is_expert, model.weights.changed)):
        raise MergeError(
            f"{model.path.adapter}: changes no feed-forward layer, the only part used of an "
            "expert; add it to base_model, or train gate_proj, up_proj and down_proj"
        )


def _check_base_adapter(base: Model, recipe: MergeRecipe) -> None:
    if not isinstance(base.weights, LoraWeights) or recipe.runs_the_base:
        return
    if all(map(_is_expert, base.weights.changed)):
        raise MergeError(
            f"{base.path.adapter}: changes only feed-forward layers, and the mixture takes "
            "these from its experts; add it to the experts instead"
        )


def _is_expert(name: str) -> bool:
    """Whether a tensor of a dense model is part of an expert."""
    return ".mlp." in name
