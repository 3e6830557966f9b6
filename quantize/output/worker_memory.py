"""How many workers, and how large a job, fit the memory that a conversion may use. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor
from franken_gguf.quantize.common.errors import OutputError

from .jobs import smallest_job

DEFAULT_MAX_MEMORY = 512 << 20
# Jobs of 4 MiB in float32 keep Python's overhead far below the arithmetic; of 1 MiB still do.
_MOST_WEIGHTS, _FEWEST_WEIGHTS = 1 << 20, 1 << 18
# What is alive at once for a weight of a job: as it is stored (up to 4 bytes), in float32 (4), as
# blocks (up to 4), and a temporary copy while it turns from one into the other (4).
_BYTES_PER_WEIGHT = 16
# Scratch of the block searches, whatever the job (bounded by a test, test_blocks_memory.py).
_SCRATCH_BYTES = 24 << 20


class Share(NamedTuple):
    """How the work is shared out."""

    workers: int
    job_weights: int

    @property
    def nbytes(self) -> int:
        """The working set of all workers together, beyond their interpreters."""
        return self.workers * (_SCRATCH_BYTES + _BYTES_PER_WEIGHT * self.job_weights)


def share_memory(tensors: Sequence[MappedTensor], threads: int, max_memory: int) -> Share:
    """As many workers as `threads` where `max_memory` bytes suffice for them, else fewer.

    Jobs shrink before workers go. Raises OutputError where even one worker takes more.
    """
    fewest = max([_FEWEST_WEIGHTS, *map(smallest_job, tensors)])
    smallest = Share(1, fewest)
    if smallest.nbytes > max_memory:
        raise OutputError(
            f"--max-memory: {max_memory:,} bytes are too few for this model's rows; give "
            f"{-(-smallest.nbytes >> 20)}MiB or more"
        )
    workers = min(threads, max_memory // smallest.nbytes)
    room = (max_memory // workers - _SCRATCH_BYTES) // _BYTES_PER_WEIGHT
    return Share(workers, max(fewest, min(_MOST_WEIGHTS, room)))
