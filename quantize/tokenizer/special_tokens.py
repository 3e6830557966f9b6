"""Special tokens: their ids, and whether they are added at the ends of text.

Ported from the rules of `SpecialVocab` in the gguf-py of llama.cpp's repository. The released gguf
0.19 follows older rules (it ignores a ByteLevel post-processor, does not take a missing bos_token
from TemplateProcessing, and prefers tokenizer_config.json to the post-processor), so its class does
not give what the converter writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import CheckpointError, TokenizerError
from franken_gguf.quantize.common.json_files import read_object
from franken_gguf.quantize.gguf_file.values import Metadata, boolean, u32

ID_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "eom": "tokenizer.ggml.eom_token_id",
}
"""GGUF keys, in the converter's order of roles ("seperator" is GGUF's spelling)."""

_ADD_KEYS = {
    "bos": "tokenizer.ggml.add_bos_token",
    "eos": "tokenizer.ggml.add_eos_token",
    "sep": "tokenizer.ggml.add_sep_token",
}

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NORMALIZER_KEYS = "tokenizer.ggml.normalizer."


def special_tokens(
    folder: Path, tokenizer: dict[str, Any], config: dict[str, Any], n_vocab: int | None
) -> Metadata:
    """The ids of the special tokens, then the flags add_bos_token, add_eos_token, add_sep_token.

    `tokenizer` and `config` are tokenizer.json and tokenizer_config.json ({} if absent). Ids from
    `n_vocab` on are left out; None accepts every id. config.json in `folder` supplies the ids that
    the tokenizer's files do not. Raises TokenizerError for malformed files.
    """
    try:
        reader = _Reader(tokenizer, config)
        ids = list(reader.ids())
        flags = dict(reader.flags())
    except (AttributeError, IndexError, KeyError, TypeError):
        # These files have no schema: errors in them show only while they are read.
        raise TokenizerError(
            f"{folder}: post_processor, added_tokens or a special token is malformed in "
            "tokenizer.json or tokenizer_config.json; download them again"
        ) from None
    model = read_object(folder / "config.json", CheckpointError)
    found: dict[str, int] = {}
    for role, id_ in (*ids, *((role, model.get(f"{role}_token_id")) for role in reader.roles)):
        # config.json can have a list as eos_token_id; GGUF stores one id, the tokenizer's.
        if isinstance(id_, bool) or not isinstance(id_, int):
            continue
        if not 0 <= id_ < 1 << 32:
            raise TokenizerError(
                f"{folder}: the {role} token has the invalid id {id_}; download "
                "the tokenizer's files again"
            )
        if n_vocab is None or id_ < n_vocab:
            found.setdefault(role, id_)
    metadata = {ID_KEYS[role]: u32(id_) for role, id_ in found.items() if role in ID_KEYS}
    return metadata | {_ADD_KEYS[role]: boolean(on) for role, on in flags.items()}


def normalizer_flags(normalizer: Any) -> Metadata:
    """The GGUF flags for tokenizer.json's `normalizer`: lower-casing and stripping accents."""
    flags: dict[str, bool] = {}
    for part in _flat(normalizer, "normalizers"):
        if part.get("type") == "Lowercase":
            flags["lowercase"] = True
        elif part.get("type") == "StripAccents":
            flags["strip_accents"] = True
        elif part.get("type") == "BertNormalizer":
            flags |= {
                name: part[name]
                for name in ("lowercase", "strip_accents")
                if isinstance(part.get(name), bool)
            }
    return {f"{_NORMALIZER_KEYS}{name}": boolean(flags[name]) for name in sorted(flags)}


def _flat(step: Any, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a tokenizer.json section; those inside a Sequence follow it."""
    if isinstance(step, dict):
        yield step
        for part in step.get(inner) or []:
            yield from _flat(part, inner)


class _Reader:
    """Reads roles and flags; the post-processor first, which can override the config."""

    def __init__(self, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
        self.roles = list(_ROLES)
        self._added = tokenizer.get("added_tokens") or []
        self._config = dict(config)
        self._has_config = bool(config)
        self._flags: dict[str, bool] = {}
        if not tokenizer:
            return
        self._borrow("bos", "cls")
        self._borrow("eos", "sep")
        processor = tokenizer.get("post_processor") or {}
        for step in processor.get("processors", [processor]):
            kind = step.get("type")
            if kind == "ByteLevel":
                self._flags.setdefault("bos", False)
                self._flags.setdefault("eos", False)
            elif kind == "RobertaProcessing":
                self._roberta(step)
            elif kind == "TemplateProcessing":
                self._template(step.get("single", []), step.get("pair", []))

    def ids(self) -> Iterator[tuple[str, int]]:
        """(role, id) of each token that tokenizer_config.json names and tokenizer.json has."""
        by_content: dict[Any, Any] = {}
        for token in self._added:
            by_content.setdefault(token.get("content"), token.get("id"))
        if self._has_config:
            for role in self.roles:
                entry = self._config.get(f"{role}_token")
                content = entry.get("content") if isinstance(entry, dict) else entry
                if isinstance(content, str) and isinstance(by_content.get(content), int):
                    yield role, by_content[content]

    def flags(self) -> Iterator[tuple[str, bool]]:
        """(role, whether the token is added to text); the post-processor overrides the config."""
        flags = dict(self._flags)
        if self._has_config:
            for role in self.roles:
                is_added = self._config.get(f"add_{role}_token")
                if isinstance(is_added, bool):
                    flags.setdefault(role, is_added)
        return ((role, on) for role, on in flags.items() if role in _ADD_KEYS)

    def _token(self, role: str) -> Any:
        return self._config.get(f"{role}_token")

    def _set(self, role: str, token: Any) -> None:
        self._config[f"{role}_token"] = token

    def _borrow(self, role: str, other: str) -> None:
        if self._has_config and not self._token(role) and self._token(other):
            self._set(role, self._token(other))

    def _roberta(self, step: dict[str, Any]) -> None:
        self._flags |= {"bos": True, "eos": True, "sep": True}
        if self._has_config:
            for role, end in (("cls", "bos"), ("sep", "eos")):
                if not self._token(role):
                    self._set(role, step.get(role, [self._token(end)])[0])

    def _template(self, single: list[Any], pair: list[Any]) -> None:
        """Read the special tokens at the ends of a template such as [<s> A </s>]."""
        first = last = None
        if len(single) > 1:
            if first := _special(single[0]):
                self._first(first)
            if last := _special(single[-1]):
                self._last(last)
        self._separator(pair, first, last)

    def _first(self, token: str) -> None:
        known = (self._token("bos"), self._token("cls"))
        # An unknown token at the start takes whichever of bos and cls is free.
        if not self._has_config or (token not in known and not all(known)):
            self._set("cls" if self._has_config and known[0] else "bos", token)
        self._flags["bos"] = token in (self._token("bos"), self._token("cls"))

    def _last(self, token: str) -> None:
        """A last token other than eos becomes eos; the old eos ends a turn (eot, eom)."""
        if self._has_config and token != self._token("eos"):
            role = next((role for role in ("eot", "eom") if role not in self.roles), None)
            if role:
                self.roles.append(role)
                self._set(role, self._token("eos"))
        self._set("eos", token)
        self._flags["eos"] = True

    def _separator(self, pair: list[Any], first: str | None, last: str | None) -> None:
        """Set the sep flag if a pair [<s> A <sep> B </s>] has a separator between A and B."""
        start = 1 if pair and first and _special(pair[0]) == first else 0
        stop = -1 if pair and last and _special(pair[-1]) == last else None
        middle = pair[start:stop]
        ends = [step.get("Sequence", {}).get("id") for step in (*middle[:1], *middle[-1:])]
        if ends != ["A", "B"] or not middle[1:-1]:
            return
        separators = (self._token("sep"), self._token("eos"))
        between = [_special(step) for step in middle[1:-1]]
        add = between[0] in separators and between[0] is not None and not last
        if len(between) == 2 and between[1] is not None and between[1] in separators:
            add = True
        self._flags["sep"] = add
        if add and self._has_config and not self._token("sep"):
            self._set("sep", self._token("eos"))


def _special(step: dict[str, Any]) -> Any:
    return step.get("SpecialToken", {}).get("id")
