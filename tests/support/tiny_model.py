"""A mixture of four tiny experts with random weights: for tests of what is around a model."""

from __future__ import annotations

from pathlib import Path

from support.checkpoints import make_checkpoint
from support.conversions import converted


def tiny_gguf(folder: Path) -> Path:
    """A Q8_0 file of 4 MB made in `folder`; it writes nonsense at a thousand tokens a second."""
    checkpoint = make_checkpoint(folder / "tiny")
    (path,) = converted(checkpoint, folder / "converted", ["Q8_0"])
    return path
