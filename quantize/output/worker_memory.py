"""The number of workers and the size of a job that fit into --max-memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.tensor_types.second_moments import MOST_TOGETHER

from .jobs import smallest_job

DEFAULT_MAX_MEMORY = 512 << 20
# 4 MiB and 1 MiB in float32: even with the smallest jobs, Python's overhead is small.
_MOST_WEIGHTS, _FEWEST_WEIGHTS = 1 << 20, 1 << 18
# Memory for each weight of a job: as stored (up to 4 bytes), in float32 (4), in blocks (up to 4),
# and a temporary copy during the conversion (4).
_BYTES_PER_WEIGHT = 16
# Temporary memory of the block searches for a job of any size; test_blocks_memory.py checks it.
_SCRATCH_BYTES = 24 << 20
# Codes chosen under second moments: the tables of the search, for a job of any size, and for each
# column of a matrix two matrices of its group, twice while they are read.
_REFINING_BYTES = 28 << 20
_REFINING_BYTES_PER_COLUMN = 16 * MOST_TOGETHER


class Share(NamedTuple):
    """How many workers run, and the size of their jobs."""

    workers: int
    job_weights: int
    scratch: int = _SCRATCH_BYTES
    """Bytes of a worker, whatever its job."""

    @property
    def nbytes(self) -> int:
        """The working set of all workers together, without their Python interpreters."""
        return self.workers * (self.scratch + _BYTES_PER_WEIGHT * self.job_weights)


def share_memory(
    tensors: Sequence[MappedTensor], threads: int, max_memory: int, *, refining: bool = False
) -> Share:
    """`threads` workers, or as many as fit into `max_memory` bytes.

    With `refining` codes are chosen under second moments. Jobs are made smaller before workers are
    dropped. Raises OutputError if one worker does not fit.
    """
    fewest = max([_FEWEST_WEIGHTS, *map(smallest_job, tensors)])
    scratch = _SCRATCH_BYTES
    if refining:
        widest = max(tensor.cols for tensor in tensors)
        scratch += _REFINING_BYTES + _REFINING_BYTES_PER_COLUMN * widest
    smallest = Share(1, fewest, scratch)
    if smallest.nbytes > max_memory:
        raise OutputError(
            f"--max-memory: {max_memory:,} bytes are not enough for this model's rows; give "
            f"{-(-smallest.nbytes >> 20)}MiB or more"
        )
    workers = min(threads, max_memory // smallest.nbytes)
    room = (max_memory // workers - scratch) // _BYTES_PER_WEIGHT
    return Share(workers, max(fewest, min(_MOST_WEIGHTS, room)), scratch)
