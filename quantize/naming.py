"""Where converted files go and what they are called. Pure but for looking at what exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .presets import PRESETS, Preset

_TYPE_SUFFIX = re.compile(rf"[-._](?:{'|'.join(PRESETS)})$", re.IGNORECASE)


def output_paths(source_name: str, presets: Sequence[Preset], out: Path | None) -> list[Path]:
    """One path for each preset.

    `out` names the file when there is one preset and no such folder; otherwise it is the folder
    (default: the current one) for files called <name>-<TYPE>.gguf. A type at the end of a GGUF
    source's own name is left out of <name>.
    """
    if (
        out is not None
        and len(presets) == 1
        and not out.is_dir()
        and not str(out).endswith(("/", "\\"))
    ):
        return [out]
    name = _TYPE_SUFFIX.sub("", source_name)
    return [(out or Path()) / f"{name}-{preset.name}.gguf" for preset in presets]
