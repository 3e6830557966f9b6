"""Value types shared by the options of several verbs."""

from __future__ import annotations

import re
from pathlib import Path

import click

FILE = click.Path(path_type=Path)
MODEL = click.Path()
"""A path or a name of the Hub, as text; `hub_names` makes a path of it."""
THREADS = click.IntRange(1, 512)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LEAST_MEMORY = 64 << 20
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def size(text: str) -> int:
    """A number of bytes: 500M and 500MB are decimal, as in llama.cpp's gguf-split; 512MiB binary.

    Used as a click type: raises BadParameter for anything else.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None or (match[3] and not match[2]):
        raise click.BadParameter(f"{text!r} is not a size; write 512MiB, 2G or a number of bytes")
    base = 1024 if match[3] else 1000
    nbytes = float(match[1]) * base ** _POWER[match[2].upper()]
    if nbytes >= 1 << 63:
        raise click.BadParameter(f"{text[:20]!r} is too large a size")
    return int(nbytes)


def memory_size(text: str) -> int:
    """A device's memory in bytes, or 0 for none; less than 64 MiB is taken for a missing unit.

    Used as a click type: raises BadParameter.
    """
    nbytes = size(text)
    if 0 < nbytes < _LEAST_MEMORY:
        least = f"less than {_LEAST_MEMORY >> 20} MiB"
        if _NUMBER.fullmatch(text.strip()):
            raise click.BadParameter(
                f"{text!r} is a number of bytes, {least}; write {text.strip()}GiB"
            )
        raise click.BadParameter(f"{text!r} is {least}")
    return nbytes
