"""tokenizer.json, run by the tokenizers library; its errors become TokenizerError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from franken_gguf.quantize.common.errors import TokenizerError

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class JsonTokenizer:
    """The tokenizer of a tokenizer.json, without truncation or padding."""

    def __init__(self, folder: Path, document: dict[str, Any], config: dict[str, Any]) -> None:
        """`document` and `config` are tokenizer.json and tokenizer_config.json of `folder`.

        Tokens that only `config` lists are added, as transformers does. Raises TokenizerError.
        """
        self.path = folder / "tokenizer.json"
        self.document = document
        self._check_model(document.get("model"))
        with self._library():
            self._tokenizer = Tokenizer.from_file(str(self.path))
            # The file can ask for truncation or padding, which is meant for training batches.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            for id_, entry in _numbered(config.get("added_tokens_decoder")):
                if id_ == self._tokenizer.get_vocab_size(with_added_tokens=True):
                    flags = {name: entry.get(name) is True for name in _FLAGS}
                    self._tokenizer.add_tokens([AddedToken(entry["content"], **flags)])
            self.vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
            self.added: dict[int, AddedToken] = self._tokenizer.get_added_tokens_decoder()

    def check_size(self, vocab_size: int) -> None:
        """Raise TokenizerError if an id is not below `vocab_size`, the rows of the embeddings."""
        last = max(self.vocab.values(), default=0)
        if last >= vocab_size:
            raise TokenizerError(
                f"{self.path}: token id {last} is beyond vocab_size {vocab_size} of config.json; "
                "the tokenizer belongs to another model"
            )

    def ids(self, text: str, *, ends: bool = False) -> list[int]:
        """Token ids of `text`; with `ends`, also the special tokens added around it."""
        with self._library():
            found: list[int] = self._tokenizer.encode(text, add_special_tokens=ends).ids
        return found

    def text(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens included."""
        with self._library():
            found: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return found

    def token_id(self, token: Any) -> int | None:
        """The id of a special token as the config gives it: a string, or {"content": string}."""
        content = token.get("content") if isinstance(token, dict) else token
        return self.vocab.get(content) if isinstance(content, str) else None

    def _check_model(self, model: Any) -> None:
        """Reject options that llama.cpp lacks, before they make the library panic."""
        for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
            if isinstance(model, dict) and model.get(option):
                raise TokenizerError(
                    f"{self.path}: {option} of its model is not supported by llama.cpp"
                )

    @contextmanager
    def _library(self) -> Iterator[None]:
        """Around calls into Rust: errors are bare Exceptions, panics only BaseExceptions."""
        try:
            yield
        except BaseException as problem:
            if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
                raise
            reason = ascii(" ".join(str(problem).split()))[1:-1][:200]
            raise TokenizerError(
                f"{self.path}: the tokenizers library cannot load or run it ({reason})"
            ) from None


def looks_special(token: str) -> bool:
    """Whether the converter treats an added token as control even if it is not marked special."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<\uff5c") and token.endswith("\uff5c>"))  # DeepSeek
        or (token.startswith("<unused") and token.endswith(">"))
    )


def _numbered(entries: Any) -> list[tuple[int, dict[str, Any]]]:
    """The valid entries of an added_tokens_decoder, sorted by id."""
    found = [
        (int(id_), entry)
        for id_, entry in (entries.items() if isinstance(entries, dict) else ())
        if id_.isdecimal() and len(id_) <= 10 and isinstance(entry, dict)
    ]
    return sorted(
        (pair for pair in found if isinstance(pair[1].get("content"), str)), key=lambda p: p[0]
    )
