"""The names of converted files and of the temporary files next to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.tensor_types.type_presets import PRESETS, Preset

_TYPE_SUFFIX = re.compile(rf"[-._](?:{'|'.join(PRESETS)})$", re.IGNORECASE)


def output_paths(source_name: str, presets: Sequence[Preset], out: str | None) -> list[Path]:
    """One path for each preset.

    `out` is a file (see `names_file`), or the folder (default: the current one) for files called
    <name>-<TYPE>.gguf, where <name> is `source_name` without a type at its end. Raises OutputError
    for one file and several presets.
    """
    if out is not None and names_file(out):
        if len(presets) > 1:
            raise OutputError(
                f"{out}: is one file, but -q asks for {len(presets)}; name a folder with -o"
            )
        return [Path(out)]
    name = _TYPE_SUFFIX.sub("", source_name)
    return [Path(out or "") / f"{name}-{preset.name}.gguf" for preset in presets]


def names_file(out: str) -> bool:
    """Whether `out` means a file: it has a suffix, no slash at its end, and is not a folder."""
    return bool(Path(out).suffix) and not out.endswith(("/", "\\")) and not Path(out).is_dir()


def part_of(path: Path) -> Path:
    """The temporary name of the file `path` while it is written."""
    return Path(f"{path}.part")


def journal_of(path: Path) -> Path:
    """The path of the journal of the output `path`."""
    return Path(f"{path}.journal")


def lock_of(path: Path) -> Path:
    """The path of the empty file that is locked while the output `path` is written."""
    return Path(f"{path}.lock")
