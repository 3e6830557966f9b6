"""The options about what a verb writes, for all verbs that have them: -o, --overwrite, --json."""

from __future__ import annotations

from .option_groups import Decorator, option
from .types import FILE


def output_option(group: str, default: str) -> Decorator:
    """-o FILE as `out`; `default` says in words what its absence means."""
    return option(
        "-o",
        "out",
        group=group,
        type=FILE,
        metavar="OUT",
        show_default=default,
        help="Output file.",
    )


def overwrite_option(group: str) -> Decorator:
    """--overwrite as `overwrite`."""
    return option(
        "--overwrite", group=group, is_flag=True, help="Replace files that already exist."
    )


def json_option(group: str = "", what: str = "result") -> Decorator:
    """--json as `as_json`; `what` is printed."""
    return option(
        "--json",
        "as_json",
        group=group,
        is_flag=True,
        help=f"Print the {what} as JSON on standard output.",
    )
