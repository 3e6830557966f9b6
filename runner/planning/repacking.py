"""Which weights llama.cpp repacks for the CPU, and whether to repack and to map the file. Pure.

Repacked weights have their rows interleaved, which a CPU multiplies faster. Of a mapped file they
are a second copy, beside the pages that they were made of; of a file that is read, the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .model_shape import Weight

Repacks = Mapping[tuple[str, int], int]
"""ggml type and number of dimensions (3 for experts) to what the rows must be a multiple of."""

COMMON_REPACKS: Repacks = {
    (kind, dimensions): 8 for kind in ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4") for dimensions in (2, 3)
}
"""What every CPU with AVX2, or with NEON's 8-bit products, repacks: for a machine not here."""


@dataclass(frozen=True)
class Way:
    """How weights come into RAM."""

    mmap: bool
    """The file is mapped, not read into memory of the process's own."""
    repack: bool
    """What llama.cpp can repack it does."""

    def copied(self, repackable: Iterable[Weight]) -> int:
        """Bytes beside one copy of each weight.

        Of a mapped file the weight that is repacked stays mapped, and the token embeddings that are
        the output as well are looked up in as they are in the file.
        """
        return sum(w.nbytes for w in repackable if w.is_tied or self.mmap) if self.repack else 0


FASTEST_FIRST = (Way(True, True), Way(False, True), Way(True, False), Way(False, False))
"""Repacked weights are multiplied faster, mapped ones loaded faster (docs/plan.md has figures)."""


def is_repacked(weight: Weight, repacks: Repacks) -> bool:
    """Whether llama.cpp repacks `weight` where it lies in RAM."""
    multiple = repacks.get((weight.kind, len(weight.shape)))
    return multiple is not None and weight.layer >= 0 and weight.shape[-2] % multiple == 0


def choose(
    repackable: Sequence[Weight],
    room: int,
    *,
    can_repack: bool = True,
    mmap: bool | None = None,
    repack: bool | None = None,
) -> Way:
    """The fastest way whose copies fit into `room` bytes; if none does, the one that copies least.

    `mmap` and `repack` are what the user has decided. Nothing is repacked where that does not work.
    """
    if not can_repack:
        repack = False
    ways = [
        way for way in FASTEST_FIRST if mmap in (None, way.mmap) and repack in (None, way.repack)
    ]
    fitting = (way for way in ways if way.copied(repackable) <= room)
    return next(fitting, min(ways, key=lambda way: way.copied(repackable)))
