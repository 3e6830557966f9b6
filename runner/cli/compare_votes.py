"""The blind choices that `franken-gguf compare` shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from franken_gguf.quantize.gguf_file.model_identity import identity
from franken_gguf.runner.compare.candidates import Candidate
from franken_gguf.runner.compare.measure.tasks import CompareError
from franken_gguf.runner.compare.results.votes import Vote, Votes
from franken_gguf.runner.conversation.session import data_folder
from franken_gguf.runner.server import vote_file
from franken_gguf.runner.ui import convert_screen


def votes_between(
    candidates: Sequence[Candidate], path: Path | None, notices: Console
) -> tuple[Vote, ...]:
    """The votes in a file, by default the user's, between these models.

    Raises CompareError, VoteFileError.
    """
    if path and not path.is_file():
        raise CompareError(f"{path}: there is no such file; 'serve --compare-with' writes one")
    source = path or data_folder() / vote_file.NAME
    found = vote_file.read_votes(source)
    if path and not found.votes:
        raise CompareError(
            f"{path}: has no blind choices; give a file that 'serve --compare-with' has written"
        )
    if found.other_lines:
        convert_screen.say(notices, f"{source}: {_ignored(found)}")
    if not found.votes:
        return ()
    ids = {identity(one.header) for one in candidates}
    ours = tuple(vote for vote in found.votes if {one.id for one in vote.models} <= ids)
    if path and not ours:
        others = ", ".join(sorted({one.file for vote in found.votes for one in vote.models}))
        convert_screen.say(notices, f"{path}: no choices between these models, only of {others}")
    return ours


def _ignored(found: Votes) -> str:
    first, count = found.other_lines[0], len(found.other_lines)
    if count == 1:
        return f"line {first} is not a blind choice and is ignored"
    return f"{count} lines are not blind choices and are ignored, line {first} first"
