"""How likely the tokens of an answer were and which experts they went to, drawn for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.engine.generation import Routes
from franken_gguf.runner.terminal import printable

from .drawing import Experts, Probabilities

# From sure to a surprise: the shade of a token whose probability is at least so much.
_SHADES = ((0.9, "green"), (0.5, "yellow"), (0.1, "dark_orange"), (0.0, "red"))
_UNSURE = 0.5
"""Tokens less likely than this are listed with what might have come."""
_MOST_LISTED = 40
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "white", "bright_black")
_BAR = 30


def probabilities(found: Probabilities) -> Group:
    """The answer, each token in the shade of its probability; those that were unsure in a list."""
    answer = Text()
    for one in found.tokens:
        answer.append(_shown(one.text), _shade(one.odds.probability))
    legend = Text("  ").join(
        Text(f"from {round(100 * least)} %", shade) for least, shade in _SHADES
    )
    unsure = [one for one in found.tokens if one.odds.probability < _UNSURE]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for one in unsure[:_MOST_LISTED]:
        others = [pair for pair in one.alternatives if pair[0] != one.text]
        table.add_row(
            Text(repr(printable(one.text)), _shade(one.odds.probability)),
            _percent(one.odds.probability),
            Text(", ".join(f"{printable(text)!r} {_percent(share)}" for text, share in others)),
        )
    rest = len(unsure) - _MOST_LISTED
    more = [Text(f"and {rest} more below {round(100 * _UNSURE)} %", "dim")] if rest > 0 else []
    return Group(answer, legend, Text(), table, *more)


def _shade(probability: float) -> str:
    return next(shade for least, shade in _SHADES if probability >= least)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def experts(found: Experts, width: int) -> Group:
    """Each expert's share, the answer by who had most of each token, and the layers' choices."""
    numbers = sorted(
        {one for _, routes in found.tokens for used in routes.values() for one in used}
    )
    names = [_name(found.names, number) for number in range(numbers[-1] + 1)]
    leading = [_leading(routes) for _, routes in found.tokens]
    answer = Text()
    for (text, _), expert in zip(found.tokens, leading, strict=True):
        answer.append(_shown(text), _colour(expert))
    return Group(_shares(found, names), Text(), answer, Text(), *_grid(found, width), _key(names))


def _name(names: Sequence[str], number: int) -> str:
    return printable(names[number]) if number < len(names) else f"expert {number}"


def _leading(routes: Routes) -> int:
    """The expert that most layers sent the token to first."""
    return Counter(used[0] for used in routes.values()).most_common(1)[0][0]


def _shares(found: Experts, names: Sequence[str]) -> Table:
    counts = Counter(one for _, routes in found.tokens for used in routes.values() for one in used)
    total = sum(counts.values())
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        share = counts[number] / total
        bar = Text("#" * round(_BAR * share), _colour(number))
        table.add_row(Text(f"{_letter(number)}  {name}"), f"{100 * share:.0f} %", bar)
    return table


def _grid(found: Experts, width: int) -> Iterator[RenderableType]:
    """A row for each layer, a column for each token: the letter of the first expert."""
    layers = sorted(found.tokens[0][1])
    label = len(str(layers[-1])) + 1
    shown = list(islice((routes for _, routes in found.tokens), max(1, width - label - 1)))
    yield Text(
        f"layers by tokens, the first {len(shown)}"
        if len(shown) < len(found.tokens)
        else "layers by tokens",
        "dim",
    )
    for layer in layers:
        row = Text(f"{layer:>{label - 1}} ", "dim")
        for routes in shown:
            expert = routes[layer][0]
            row.append(_letter(expert), _colour(expert))
        yield row


def _key(names: Sequence[str]) -> Text:
    return Text("  ").join(Text(f"{_letter(n)} {name}", _colour(n)) for n, name in enumerate(names))


def _letter(expert: int) -> str:
    return chr(ord("A") + expert) if expert < 26 else chr(ord("a") + (expert - 26) % 26)


def _colour(expert: int) -> str:
    return _COLOURS[expert % len(_COLOURS)]
