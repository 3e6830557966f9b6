"""Options listed under headings, with defaults in words, in every verb's `--help`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Option(click.Option):
    """An option with the heading it is listed under; "" is the last group."""

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Show a default in words without click's parentheses, and leave out ranges.

        A value outside its range is refused with an error that states the range.
        """
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra


class Command(click.Command):
    """A command whose help lists its options under their headings.

    cloup and rich-click do this and much more; this is the part that is needed here.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, with the same name column in all of them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", ""), []).append(record)
        unnamed = groups.pop("", [])
        groups["Other options" if groups else "Options"] = unnamed
        widest = formatter.width // 3  # a longer name has a line of its own
        names = [name for rows in groups.values() for name, _ in rows if len(name) <= widest]
        column = max(map(len, names), default=0)
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{column}}", text) for name, text in rows], column)


def option(*names: str, group: str = "", **settings: Any) -> Decorator:
    """click.option, listed in the help under the heading `group`."""
    return click.option(*names, cls=Option, group=group, **settings)


def with_options(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with these options, listed in this order."""
    for one in reversed(options):
        command = one(command)
    return command


def bundled(name: str, kind: type, options: Sequence[Decorator]) -> Decorator:
    """A decorator that adds `options` to a command.

    Values of options named like a field of the dataclass `kind` reach the command as one object of
    it in the argument `name`, the others as separate arguments.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_bundle(**values: Any) -> Any:
            mine = [field.name for field in fields(kind) if field.name in values]
            bundle = kind(**{field: values.pop(field) for field in mine})
            return command(**{name: bundle}, **values)

        return with_options(options, with_bundle)

    return decorate
