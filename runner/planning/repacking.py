"""Which weights llama.cpp repacks for the CPU, and whether to repack and to map the file. Pure.

Repacked weights have interleaved rows, which a CPU multiplies faster. If the file is mapped, they
are a second copy beside its pages; if it is read into memory, they are the only copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .model_shape import Weight

Repacks = Mapping[tuple[str, int], int]
"""(ggml type, number of dimensions; 3 for experts) to what the rows must be a multiple of."""

COMMON_REPACKS: Repacks = {
    (kind, dimensions): 8 for kind in ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4") for dimensions in (2, 3)
}
"""What every CPU with AVX2, or with NEON's 8-bit products, repacks: if the CPU is not known."""


@dataclass(frozen=True)
class Way:
    """How weights get into RAM."""

    mmap: bool
    """The file is mapped, not read into memory."""
    repack: bool
    """llama.cpp repacks what it can."""

    def copied(self, repackable: Iterable[Weight]) -> int:
        """Bytes of second copies of weights.

        If the file is mapped, repacked weights stay mapped too. Token embeddings that are also the
        output are always kept as stored too, to be looked up.
        """
        return sum(w.nbytes for w in repackable if w.is_tied or self.mmap) if self.repack else 0


FASTEST_FIRST = (Way(True, True), Way(False, True), Way(True, False), Way(False, False))
"""Repacking speeds up multiplication, mapping speeds up loading (figures in docs/plan.md)."""


def is_repacked(weight: Weight, repacks: Repacks) -> bool:
    """Whether llama.cpp repacks `weight` if it is in RAM."""
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

    `mmap` and `repack` are the user's choices, None for none. `can_repack` overrides `repack`.
    """
    if not can_repack:
        repack = False
    ways = [
        way for way in FASTEST_FIRST if mmap in (None, way.mmap) and repack in (None, way.repack)
    ]
    fitting = (way for way in ways if way.copied(repackable) <= room)
    return next(fitting, min(ways, key=lambda way: way.copied(repackable)))
