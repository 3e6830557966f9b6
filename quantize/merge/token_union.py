"""tokenizer_source: union. The base model, extended by the tokens that only its experts have.

    models that have the token     its row of the embeddings and of lm_head
    the base model                 the base model's
    one expert                     that expert's
    several experts                the mean of theirs

as in mergekit (https://github.com/arcee-ai/mergekit/pull/334). A model has a token if the token's
id has a row: many tokenizers name ChatML's tokens although the model has no rows for them. New
tokens come after the base model's, in the order of the experts. Only added tokens, which are
matched in text as a whole, are taken over; others need the merges of their own vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from franken_gguf.quantize.common.errors import CheckpointError, MergeError, TokenizerError
from franken_gguf.quantize.common.json_files import read_object

from .base_copy import with_copied_files
from .config_files import write_json
from .extended_vocab import EMBEDDINGS, LM_HEAD, ExtendedWeights, Row
from .source_models import Model
from .token_vocabulary import MOST_NEW, Token, is_foreign, named_tokens

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class NewToken:
    """A token without a row in the base model, and the models that have one."""

    id: int
    text: str
    is_special: bool
    is_named: bool
    """Whether the base model's tokenizer has it."""
    owners: tuple[tuple[Model, int], ...]
    """The models that have a row, each with the token's id in it."""


def with_union(base: Model, models: Sequence[Model]) -> tuple[Model, list[str]]:
    """`base` extended by the tokens of `models`, and the texts of these. Raises a FrankenError."""
    added = new_tokens(base, models)
    if not added:
        return base, []
    count = max(_rows(base), added[-1].id + 1)
    rows = {
        token.id: [Row(model.path, model.weights, id_) for model, id_ in token.owners]
        for token in added
    }
    model = replace(base, weights=ExtendedWeights(base.weights, rows, count))
    model = with_copied_files(model, "union")
    config = read_object(model.folder / "config.json", CheckpointError)
    write_json(model.folder / "config.json", config | {"vocab_size": count})
    _write_names(model.folder, [token for token in added if not token.is_named])
    return model, [token.text for token in added]


def new_tokens(base: Model, models: Sequence[Model]) -> list[NewToken]:
    """The tokens that the union adds to the base model, by id. Raises a FrankenError."""
    known = named_tokens(base.folder)
    named = {token.text: id_ for id_, token in known.items()}
    with_row = {text for text, id_ in named.items() if id_ < _rows(base)}
    found: dict[str, list[tuple[Model, int, Token]]] = {}
    others = (model for model in models if model.folder != base.folder)
    for model in others:
        for id_, token in _missing_tokens(model, known, with_row):
            found.setdefault(token.text, []).append((model, id_, token))
    new = [text for text in found if text not in named]
    ids = named | {text: max(known, default=-1) + n for n, text in enumerate(new, 1)}
    added = [
        NewToken(
            ids[text],
            text,
            owners[0][2].type == TokenType.CONTROL,
            text in named,
            tuple((model, id_) for model, id_, _ in owners),
        )
        for text, owners in found.items()
    ]
    added.sort(key=lambda token: token.id)
    _check_contiguous(base, known, added)
    return added


def _missing_tokens(
    model: Model, known: dict[int, Token], with_row: set[str]
) -> Iterator[tuple[int, Token]]:
    """The tokens, with their ids, that have a row in `model` but not in the base model."""
    tokens = named_tokens(model.folder)
    new = {
        id_: token
        for id_, token in sorted(tokens.items())
        if id_ < _rows(model) and token.text not in with_row
    }
    ordinary = next((token.text for token in new.values() if not token.is_added), None)
    if ordinary is not None or is_foreign(tokens, known) or len(new) > MOST_NEW:
        some = f" ({ascii(ordinary)[:60]} is not an added token)" if ordinary else ""
        raise MergeError(
            f"{model.path}: has another vocabulary than the base model{some}; a union takes only "
            "added tokens: leave this expert out, or use tokenizer_source: base"
        )
    return iter(new.items())


def _check_contiguous(base: Model, known: dict[int, Token], added: Sequence[NewToken]) -> None:
    """Raise MergeError unless every id up to the last one has a row."""
    present = {token.id for token in added}
    for id_ in range(_rows(base), max(present, default=0)):
        if id_ not in present:
            text = f" ({ascii(known[id_].text)[:60]})" if id_ in known else ""
            raise MergeError(
                f"{base.path}: token id {id_}{text} has no embedding, and no expert has one; "
                "remove it from the tokenizer's files, or use tokenizer_source: base"
            )


def _rows(model: Model) -> int:
    """The number of tokens with a row. Raises MergeError for tensors of an unexpected shape."""
    shapes = model.weights.shapes
    shape = shapes.get(EMBEDDINGS, ())
    if (
        len(shape) != 2
        or shape[1] != model.shape.hidden_size
        or shapes.get(LM_HEAD, shape) != shape
    ):
        raise MergeError(
            f"{model.path}: {EMBEDDINGS} is {list(shape) or 'missing'}, {LM_HEAD} "
            f"{list(shapes.get(LM_HEAD, ())) or 'missing'}; expected "
            f"[tokens, {model.shape.hidden_size}]; the model is incomplete, download it again"
        )
    return shape[0]


def _write_names(folder: Path, tokens: Sequence[NewToken]) -> None:
    """Write `tokens` to every file in which transformers looks for added tokens."""
    entries = {token.id: {"content": token.text} | _flags(token) for token in tokens}
    names, settings, ids = (
        folder / f"{name}.json" for name in ("tokenizer", "tokenizer_config", "added_tokens")
    )
    if names.is_file():
        document = read_object(names, TokenizerError)
        present = document.get("added_tokens")
        new = [{"id": id_} | entry for id_, entry in entries.items()]
        added = [*present, *new] if isinstance(present, list) else new
        write_json(names, document | {"added_tokens": added})
    config = read_object(settings, TokenizerError) if settings.is_file() else {}
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        decoder |= {str(id_): entry for id_, entry in entries.items()}
        write_json(settings, config)
    if ids.is_file() or not (names.is_file() or isinstance(decoder, dict)):
        before = read_object(ids, TokenizerError) if ids.is_file() else {}
        write_json(ids, before | {token.text: token.id for token in tokens})


def _flags(token: NewToken) -> dict[str, bool]:
    """How the first model that has it matches it in text; GGUF files only know if it is special."""
    folder = token.owners[0][0].folder
    for entry in _entries(folder) if folder.is_dir() else ():
        if isinstance(entry, dict) and entry.get("content") == token.text:
            return {flag: entry.get(flag) is True for flag in _FLAGS}
    return dict.fromkeys(_FLAGS, False) | {"special": token.is_special}


def _entries(folder: Path) -> Iterator[Any]:
    for name, key in (
        ("tokenizer.json", "added_tokens"),
        ("tokenizer_config.json", "added_tokens_decoder"),
    ):
        path = folder / name
        entries = read_object(path, TokenizerError).get(key) if path.is_file() else None
        if isinstance(entries, dict):
            yield from entries.values()
        elif isinstance(entries, list):
            yield from entries
