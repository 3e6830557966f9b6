"""Where converted files go and what they are called. Pure but for looking at what exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.tensor_types.type_presets import PRESETS, Preset

_TYPE_SUFFIX = re.compile(rf"[-._](?:{'|'.join(PRESETS)})$", re.IGNORECASE)


def output_paths(source_name: str, presets: Sequence[Preset], out: str | None) -> list[Path]:
    """One path for each preset.

    `out` is a file (see `names_file`) or the folder (default: the current one) for files called
    <name>-<TYPE>.gguf. A type at the end of a GGUF source's own name is left out of <name>. Raises
    OutputError for one file and several presets.
    """
    if out is not None and names_file(out):
        if len(presets) > 1:
            raise OutputError(
                f"{out}: is one file, and -q asks for {len(presets)}; name a folder with -o"
            )
        return [Path(out)]
    name = _TYPE_SUFFIX.sub("", source_name)
    return [Path(out or "") / f"{name}-{preset.name}.gguf" for preset in presets]


def names_file(out: str) -> bool:
    """Whether a path is meant as a file: it has a suffix, ends in no slash, and is no folder."""
    return bool(Path(out).suffix) and not out.endswith(("/", "\\")) and not Path(out).is_dir()


def part_of(path: Path) -> Path:
    """Where the file `path` is while it is written."""
    return Path(f"{path}.part")


def journal_of(path: Path) -> Path:
    """Where the journal of the output `path` is."""
    return Path(f"{path}.journal")


def lock_of(path: Path) -> Path:
    """The empty file that is locked while the output `path` is written."""
    return Path(f"{path}.lock")
