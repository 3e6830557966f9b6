"""A merge recipe as a source: nothing is written anywhere but what is made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from franken_gguf.quantize.checkpoint_source import CheckpointSource
from franken_gguf.quantize.errors import MergeError, TokenizerError
from franken_gguf.quantize.formats import F32, FORMATS
from franken_gguf.quantize.json_files import read_object
from franken_gguf.quantize.parity import reference_tokenizer

from .gates import (
    balanced_rows,
    by_expert,
    degenerate_layers,
    random_rows,
    rows_of_embeddings,
    rows_of_states,
    uniform_rows,
)
from .joined_weights import EMBEDDINGS
from .lora import LoraWeights
from .models import FEED_FORWARD, Model, check_fits, feed_forward, open_model
from .recipe_file import BALANCED, CHEAP_EMBED, HIDDEN, RANDOM, UNION, MergeRecipe, read_recipe
from .small_files import write_small_files
from .union import with_union
from .vocabulary import listed, vocabulary_notices
from .weights import MergedWeights

_Prompts = list[list[int]]


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
        """`folder` holds what merge.small_files writes; it may be gone afterwards."""
        super().__init__(folder, weights, name=recipe.path.stem)
        self.tokenizer_folder = self.base_folder = base.folder
        self.recipe = recipe
        self.weights = weights
        self.joined = joined
        """Tokens that a union adds to the base model's."""
        self.alike: list[int] = []
        """Layers in which the router's rows are too much alike to part the prompts."""
        self._base = base

    @property
    def fingerprint(self) -> bytes:
        """The router's rows: how the base model was run has a say in them."""
        rows = self.weights.rows
        return b"" if rows is None else hashlib.sha256(rows.tobytes()).digest()

    def vocabulary_notices(self) -> list[str]:
        """A line for each way in which the models' tokens differ."""
        recipe = self.recipe
        if recipe.tokenizer_source == UNION:
            count = len(self.joined)
            named = f"{count:,} {'token' if count == 1 else 'tokens'} ({listed(self.joined)})"
            return (
                [f"{recipe.path}: {named} from the experts join the base model's"] if count else []
            )
        return vocabulary_notices(recipe.base.model, [one.source.model for one in recipe.experts])

    def base_source(self) -> CheckpointSource:
        """The dense base model, whose hidden states make the router. Raises a FrankenError."""
        return CheckpointSource(self.base_folder, self._base.weights)

    @property
    def wants_router_inputs(self) -> bool:
        """Whether `route` wants what the routers see at every token, not what enters a layer."""
        return self.recipe.gate_mode == BALANCED

    def prompts(self) -> list[list[int]]:
        """The token ids of all prompts whose states `route` wants; none for other modes."""
        if self.recipe.gate_mode not in (HIDDEN, BALANCED):
            return []
        return [ids for pair in self._tokenized() for prompts in pair for ids in prompts]

    def route(self, states: Sequence[F32] = ()) -> None:
        """Make the router's rows.

        `states`, [layers, tokens, hidden] for each of `prompts()`, in their order: what enters each
        layer at the last token (one token), or what the routers see, see `wants_router_inputs`.
        """
        mode, base = self.recipe.gate_mode, self._base.shape
        layers, experts, hidden = base.num_hidden_layers, len(self.recipe.experts), base.hidden_size
        if mode == HIDDEN:
            rows = by_expert([rows_of_states(*pair) for pair in self._pairs(states)])
        elif mode == BALANCED:
            rows = balanced_rows([positive for positive, _ in self._pairs(states)])
        elif mode == CHEAP_EMBED:
            pairs = [(self._embedded(one), self._embedded(two)) for one, two in self._tokenized()]
            rows = by_expert([rows_of_embeddings(*pair, layers) for pair in pairs])
        elif mode == RANDOM:
            rows = random_rows(layers, experts, hidden)
        else:
            rows = uniform_rows(layers, experts, hidden)
        self.weights.rows = rows
        self.alike = degenerate_layers(rows) if mode in (HIDDEN, CHEAP_EMBED) else []

    def _pairs(self, states: Sequence[F32]) -> Iterator[tuple[Sequence[F32], Sequence[F32]]]:
        """Of each expert, the states of its positive and of its negative prompts."""
        end = 0
        for expert in self.recipe.experts:
            start, middle = end, end + len(expert.positive)
            end = middle + len(expert.negative)
            yield states[start:middle], states[middle:end]

    def _tokenized(self) -> list[tuple[_Prompts, _Prompts]]:
        """Positive and negative prompts of each expert, as mergekit tokenizes them: after BOS."""
        tokenize = reference_tokenizer(self.base_folder)
        bos = _bos(self.base_folder)
        return [
            (
                [tokenize(bos + text) for text in one.positive],
                [tokenize(bos + text) for text in one.negative],
            )
            for one in self.recipe.experts
        ]

    def _embedded(self, prompts: Sequence[Sequence[int]]) -> F32:
        weights = self._base.weights
        codec = FORMATS[weights.dtype(EMBEDDINGS).name]
        rows = [
            codec.dequantize(weights.read(EMBEDDINGS, token, token + 1))
            for ids in prompts
            for token in ids
        ]
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)


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
    if EMBEDDINGS not in base.weights.shapes:
        raise MergeError(f"{base.path}: tensor {EMBEDDINGS!r} is missing; download it again")
    joined: list[str] = []
    if recipe.tokenizer_source == UNION:
        base, joined = with_union(base, list(models.values()))
    dtype = base.weights.dtype(EMBEDDINGS) if recipe.dtype is None else recipe.dtype
    experts = [(expert, models[expert.source]) for expert in recipe.experts]
    weights = MergedWeights(path, base, experts, dtype)
    with TemporaryDirectory(prefix="franken-gguf-") as temporary:
        folder = Path(temporary) / path.stem
        folder.mkdir()
        write_small_files(folder, recipe, base.folder, dtype, path.stem)
        source = MergedSource(folder, recipe, base, weights, joined)
    if recipe.gate_mode not in (HIDDEN, BALANCED):
        source.route()
    return source


def _check_adapter(model: Model) -> None:
    if not isinstance(model.weights, LoraWeights):
        return
    layers = range(model.shape.num_hidden_layers)
    matrices = {feed_forward(layer, matrix) for layer in layers for matrix in FEED_FORWARD}
    if not matrices & model.weights.touched:
        raise MergeError(
            f"{model.path.adapter}: touches no feed-forward layer, and an expert is nothing else; "
            "put it on base_model, or train gate_proj, up_proj and down_proj"
        )


def _bos(folder: Path) -> str:
    """The text of the token in front of a prompt; empty where the tokenizer has none."""
    path = folder / "tokenizer_config.json"
    token = read_object(path, TokenizerError).get("bos_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""
