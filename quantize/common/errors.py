"""Exceptions for errors that a user can cause; the text of each is the one line that is shown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FrankenError(Exception):
    """An error that a user can cause. Its text names the file or tensor and how to fix it."""


class CheckpointError(FrankenError):
    """The source is missing, truncated or inconsistent, or cannot be converted."""


class HubError(FrankenError):
    """A model of the Hugging Face Hub that is not there, or not in its cache as a whole."""


class ReadError(CheckpointError):
    """A file of the source could not be read this time; a retry may succeed."""


class MergeError(CheckpointError):
    """A merge recipe that cannot be followed, or models that do not fit together."""


class TokenizerError(FrankenError):
    """The tokenizer files are missing, unknown, or do not match the written GGUF."""


class GGUFError(FrankenError):
    """A GGUF file is truncated or damaged, or its header contradicts its contents."""


class RecipeError(FrankenError):
    """A type, preset or override that does not exist or does not fit a tensor."""


class ImatrixError(FrankenError):
    """An importance matrix is truncated, has invalid values, or was made for another model."""


class OutputError(FrankenError):
    """An output already exists, does not fit on the disk, or would overwrite its own source."""


class WorkerError(FrankenError):
    """A worker process ended before it finished its work."""


class VerifyError(FrankenError):
    """A finished file differs from what its source should give."""


def shown(value: object) -> str:
    """An untrusted value as text for an error: at most 60 characters, none a control character."""
    try:
        text = ascii(value)
    except ValueError:  # Python refuses to print an integer of thousands of digits
        return "a number of many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The text "did you mean X?", X being the closest of `known`, or "" if none is close."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""
