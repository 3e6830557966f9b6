"""The votes file: blind choices appended as they are made, and read again."""

from __future__ import annotations

import os
from pathlib import Path

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.compare.results.votes import Vote, Votes, decode, encode
from franken_gguf.runner.conversation.session import make_private

NAME = "votes.jsonl"
_MAX_BYTES = 1 << 26


class VoteFileError(FrankenError):
    """A votes file cannot be read or written."""


def read_votes(path: Path) -> Votes:
    """The votes in a file; none if it does not exist. Raises VoteFileError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return Votes()
    except OSError as error:
        raise VoteFileError(f"{path}: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise VoteFileError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; votes take less")
    return decode(data.decode(errors="replace"))


def add_vote(path: Path, vote: Vote) -> None:
    """Append a vote to a private file, which need not exist yet. Raises VoteFileError."""
    try:
        make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_cut = size > 0 and file.read(1) != b"\n"  # by a full disk or a power failure
            # One write: another server may append at the same time.
            file.write(("\n" * is_cut + encode(vote)).encode(errors="replace"))
            os.fsync(file.fileno())
    except OSError as error:
        raise VoteFileError(f"{path}: the choice is not kept: {error.strerror}") from None
