"""The router of a recipe: the prompts to run the base model on, and rows made from its states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from franken_gguf.quantize.blocks.formats import F32, FORMATS
from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.families.family import Family
from franken_gguf.quantize.common.errors import MergeError, TokenizerError
from franken_gguf.quantize.common.json_files import read_object
from franken_gguf.quantize.tokenizer.tokenizer_check import Tokenize, reference_tokenizer

from .calibration import passages
from .extended_vocab import EMBEDDINGS
from .load_balance import balance_load, load_range, wins
from .recipe_file import CHEAP_EMBED, HIDDEN, RANDOM, MergeRecipe
from .router_rows import (
    balanced_rows,
    by_expert,
    degenerate_layers,
    gate_row,
    random_rows,
    rows_of_embeddings,
    rows_of_states,
    uniform_rows,
)
from .source_models import Model

_States = Sequence[F32]
_Prompts = tuple[list[list[int]], list[list[int]]]


class Router:
    """Makes the router's rows as the recipe's gate_mode asks."""

    def __init__(self, recipe: MergeRecipe, base: Model, family: Family) -> None:
        self._recipe = recipe
        self._base = base
        shared = family.experts.shared if family.experts else None
        self._gated = recipe.experts + (recipe.shared if shared and shared.gate else ())
        """All experts with a row; the shared one, with its gate, is the last."""

    @property
    def reads_inputs(self) -> bool:
        """Whether `rows` needs the router's input at every token, not a layer's at the last."""
        return self._recipe.fits_rows

    def prompts(self) -> list[list[int]]:
        """The token ids of all texts whose states `rows` needs; empty if it needs none.

        First each expert's positive and negative prompts, then passages of the calibration text.
        Raises a FrankenError.
        """
        if not self._recipe.runs_the_base:
            return []
        tokenize = self._tokenizer()
        pairs = self._tokenized(tokenize)
        self._check_lengths(pairs)
        ids = [ids for pair in pairs for prompts in pair for ids in prompts]
        text = self._recipe.calibration_text
        return ids + (passages(text, tokenize) if text else [])

    def rows(self, states: _States = ()) -> tuple[F32, list[str]]:
        """The rows, float32 [layers, experts, hidden], and notices about them for the user.

        The row of the shared expert's gate, if it has one, follows those of the experts.

        `states` has an array [layers, tokens, hidden] for each of `prompts()`, in their order: the
        input of each layer at the last token (tokens is 1) or, if `reads_inputs`, the router's at
        every token. Raises MergeError if the base model gives NaN or Inf.
        """
        mode, shape = self._recipe.gate_mode, self._base.shape
        sizes = shape.num_hidden_layers, len(self._gated), shape.hidden_size
        if not all(np.isfinite(prompt).all() for prompt in states):
            raise self._broken()
        if self._recipe.fits_rows:
            return self._balanced(states)
        if mode == HIDDEN:
            rows = by_expert([rows_of_states(*pair) for pair in self._pairs(states)])
        elif mode == CHEAP_EMBED:
            pairs = self._tokenized(self._tokenizer())
            rows = by_expert(
                [
                    rows_of_embeddings(self._embedded(positive), self._embedded(negative), sizes[0])
                    for positive, negative in pairs
                ]
            )
        elif mode == RANDOM:
            return random_rows(*sizes), []
        else:
            return uniform_rows(*sizes), []
        if not np.isfinite(rows).all():
            raise self._broken()
        return rows, _similarity_notices(rows[:, : len(self._recipe.experts)])

    def _balanced(self, states: _States) -> tuple[F32, list[str]]:
        recipe, used = self._recipe, self._recipe.experts_used
        every = [prompts for prompts, _ in self._pairs(states)]
        positive, shared = every[: len(recipe.experts)], every[len(recipe.experts) :]
        rows = balanced_rows(positive)
        notices = []
        if calibration := states[recipe.prompt_count :]:
            text = np.concatenate(calibration, axis=1)
            before = load_range(rows, text, used)
            rows = balance_load(rows, text, used, recipe.load_bound)
            notices.append(self._load_notice(before, load_range(rows, text, used)))
        won = [wins(rows, prompt, n, used) for n, own in enumerate(positive) for prompt in own]
        notices.append(f"{sum(won)} of {len(won)} prompts route mainly to their own expert")
        gates = [gate_row(own, [prompt for each in positive for prompt in each]) for own in shared]
        return np.concatenate([rows, *gates], axis=1), notices

    def _load_notice(self, before: tuple[float, float], after: tuple[float, float]) -> str:
        recipe = self._recipe
        average = recipe.experts_used / len(recipe.experts)
        notice = (
            f"{recipe.calibration_text}: in every layer each expert processes {_percent(after)} of "
            f"its tokens (average {100 * average:.0f} %; before balancing {_percent(before)})"
        )
        distance = max(average - after[0], after[1] - average)
        if distance > average * (recipe.load_bound + 1e-9):
            notice += f", which is not within load_bound {recipe.load_bound:g}"
        return notice

    def _pairs(self, states: _States) -> Iterator[tuple[_States, _States]]:
        """For each expert, the states of its positive and of its negative prompts."""
        end = 0
        for expert in self._gated:
            start, middle = end, end + len(expert.positive)
            end = middle + len(expert.negative)
            yield states[start:middle], states[middle:end]

    def _check_lengths(self, pairs: Sequence[_Prompts]) -> None:
        most = read_config(self._base.folder).context_length
        for number, pair in enumerate(pairs):
            for name, prompts in zip(("positive", "negative"), pair, strict=True):
                for index, ids in enumerate(prompts):
                    if len(ids) > most:
                        raise MergeError(
                            f"{self._where(number)}: {name}_prompts[{index}] has "
                            f"{len(ids):,} tokens, more than the base model's context of {most:,}; "
                            "shorten it"
                        )

    def _tokenized(self, tokenize: Tokenize) -> list[_Prompts]:
        """The token ids of each expert's positive and negative prompts."""
        pairs = [
            (list(map(tokenize, expert.positive)), list(map(tokenize, expert.negative)))
            for expert in self._gated
        ]
        for number, (positive, negative) in enumerate(pairs):
            if not all(positive + negative):
                raise MergeError(f"{self._where(number)}: a prompt has no tokens; write another")
        return pairs

    def _where(self, number: int) -> str:
        """The place of one of the gated experts in the recipe."""
        routed = len(self._recipe.experts)
        shared = number >= routed
        place = f"shared_experts[{number - routed}]" if shared else f"experts[{number}]"
        return f"{self._recipe.path}: {place}"

    def _tokenizer(self) -> Tokenize:
        """Tokenizes a text with BOS before it, as mergekit does."""
        tokenize, bos = reference_tokenizer(self._base.folder), _bos(self._base.folder)
        return lambda text: tokenize(bos + text)

    def _embedded(self, prompts: Sequence[Sequence[int]]) -> F32:
        """The embeddings of all tokens, float32 [tokens, hidden]; [0, 0] without prompts."""
        weights = self._base.weights
        block_format = FORMATS[weights.dtype(EMBEDDINGS).name]
        rows = [
            block_format.dequantize(weights.read(EMBEDDINGS, token, token + 1))
            for ids in prompts
            for token in ids
        ]
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def _broken(self) -> MergeError:
        return MergeError(
            f"{self._base.path}: its states or embeddings for the prompts hold NaN or Inf; the "
            "model is broken, download it again"
        )


def _similarity_notices(rows: F32) -> list[str]:
    layers = degenerate_layers(rows)
    if not layers:
        return []
    return [
        f"in {len(layers)} of {len(rows)} layers the experts' router rows are very similar, so "
        "some experts may hardly be used; make their prompts more different"
    ]


def _percent(shares: tuple[float, float]) -> str:
    return f"{100 * shares[0]:.0f} to {100 * shares[1]:.0f} %"


def _bos(folder: Path) -> str:
    """The text of the BOS token; empty if the tokenizer has none."""
    path = folder / "tokenizer_config.json"
    token = read_object(path, TokenizerError).get("bos_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""
