"""A merge recipe as a source: nothing is written anywhere but what is made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.hf_source import CheckpointSource
from franken_gguf.quantize.common.errors import MergeError

from .chat_template import with_chat_template
from .config_files import write_small_files
from .extended_vocab import EMBEDDINGS
from .lora import LoraWeights
from .mixture_tensors import MergedWeights
from .recipe_file import UNION, MergeRecipe, read_recipe
from .router import Router
from .source_models import Model, check_fits, open_model
from .token_union import with_union
from .token_vocabulary import listed, vocabulary_notices


class MergedSource(CheckpointSource):
    """The mixture of a recipe. Before its rows are read, `route` it."""

    def __init__(
        self,
        folder: Path,
        recipe: MergeRecipe,
        base: Model,
        weights: MergedWeights,
        joined: Sequence[str] = (),
    ) -> None:
        """`folder` holds what config_files.write_small_files writes; it may be gone afterwards."""
        super().__init__(folder, weights, name=recipe.path.stem, tokenizer_folder=base.folder)
        self.base_folder = base.folder
        self.recipe = recipe
        self.weights = weights
        self.joined = joined
        """Tokens that a union adds to the base model's."""
        self.router = Router(recipe, base)
        self.notices: list[str] = []
        """What came of `route` that the user wants to know."""
        self._base = base

    @property
    def fingerprint(self) -> bytes:
        """The router's rows: how the base model was run has a say in them."""
        rows = self.weights.rows
        return b"" if rows is None else hashlib.sha256(rows.tobytes()).digest()

    def vocabulary_notices(self) -> list[str]:
        """A line for each way in which the models' tokens differ."""
        recipe = self.recipe
        if recipe.tokenizer_source != UNION:
            experts = [expert.source.model for expert in recipe.experts]
            return vocabulary_notices(recipe.base.model, experts)
        if not self.joined:
            return []
        count = f"{len(self.joined):,} {'token' if len(self.joined) == 1 else 'tokens'}"
        return [f"{recipe.path}: {count} beyond the base model's taken in ({listed(self.joined)})"]

    def base_source(self) -> CheckpointSource:
        """The dense base model, whose hidden states make the router. Raises a FrankenError."""
        return CheckpointSource(self.base_folder, self._base.weights)

    def route(self, states: Sequence[F32] = ()) -> None:
        """Make the router's rows; `states` are what `router.prompts()` leave, see Router."""
        rows, self.notices = self.router.rows(states)
        self.weights.rows = rows


def merge_source(path: Path) -> MergedSource:
    """The source that the recipe `path` describes; headers and tokenizer files alone are read.

    Raises MergeError where the models do not fit together, and what they raise.
    """
    recipe = read_recipe(path)
    if not recipe.base.model.is_dir():
        raise MergeError(
            f"{recipe.base.model}: base_model gives config.json and the tokenizer: it must be a "
            "Hugging Face folder; only experts may be GGUF files"
        )
    paths = dict.fromkeys([recipe.base, *(expert.source for expert in recipe.experts)])
    models = {one: open_model(one) for one in paths}
    base = models[recipe.base]
    for expert in recipe.experts:
        check_fits(models[expert.source], base)
        _check_adapter(models[expert.source])
    _check_base_adapter(base, recipe)
    if EMBEDDINGS not in base.weights.shapes:
        raise MergeError(f"{base.path}: tensor {EMBEDDINGS!r} is missing; download it again")
    joined: list[str] = []
    if recipe.tokenizer_source == UNION:
        base, joined = with_union(base, list(models.values()))
    if recipe.chat_template:
        base = with_chat_template(base, recipe.chat_template)
    dtype = base.weights.dtype(EMBEDDINGS) if recipe.dtype is None else recipe.dtype
    experts = [(expert, models[expert.source]) for expert in recipe.experts]
    weights = MergedWeights(path, base, experts, dtype)
    with TemporaryDirectory(prefix="franken-gguf-") as temporary:
        folder = Path(temporary) / (path.stem if path.stem.strip(".") else "model")
        folder.mkdir()
        write_small_files(folder, recipe, base.folder, dtype, path.stem)
        source = MergedSource(folder, recipe, base, weights, joined)
    if not recipe.runs_the_base:
        source.route()
    return source


def _check_adapter(model: Model) -> None:
    if isinstance(model.weights, LoraWeights) and not any(map(_is_expert, model.weights.touched)):
        raise MergeError(
            f"{model.path.adapter}: touches no feed-forward layer, and an expert is nothing else; "
            "put it on base_model, or train gate_proj, up_proj and down_proj"
        )


def _check_base_adapter(base: Model, recipe: MergeRecipe) -> None:
    if not isinstance(base.weights, LoraWeights) or recipe.runs_the_base:
        return
    if all(map(_is_expert, base.weights.touched)):
        raise MergeError(
            f"{base.path.adapter}: touches the feed-forward layers alone, which come from the "
            "experts; put it on these"
        )


def _is_expert(name: str) -> bool:
    """Whether a tensor of a dense model is part of an expert."""
    return ".mlp." in name
