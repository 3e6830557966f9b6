"""What can go wrong with a user's input, as exceptions whose text is the one line that is shown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FrankenError(Exception):
    """An error that a user can cause. Its text names the file or tensor and how to fix it."""


class CheckpointError(FrankenError):
    """The source is missing, cut, inconsistent, or holds what cannot be converted."""


class ReadError(CheckpointError):
    """A file of the source cannot be read now; it may be later."""


class MergeError(CheckpointError):
    """A merge recipe that cannot be followed, or models that do not fit together."""


class TokenizerError(FrankenError):
    """The tokenizer files are missing, unknown, or disagree with the written GGUF."""


class GGUFError(FrankenError):
    """A GGUF file is cut, lies about itself, or asks for more than it can hold."""


class RecipeError(FrankenError):
    """A type, preset or override that does not exist or does not fit a tensor."""


class ImatrixError(FrankenError):
    """An importance matrix is cut, nonsensical, or made for another model."""


class OutputError(FrankenError):
    """An output exists, does not fit on the disk, or would overwrite its own source."""


class WorkerError(FrankenError):
    """A worker process ended before its work did."""


class VerifyError(FrankenError):
    """A finished file is not what its source says it should be."""


def shown(value: object) -> str:
    """A value from a file for an error's line: short, and without control characters."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes no whole number of so many digits
        return "a number of many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The words "did you mean X?" with X the nearest of `known`, or "" if none is near."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""
