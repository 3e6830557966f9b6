"""How likely the tokens of an answer were and which experts they went to, drawn for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.commands.sampling_commands import Experts, Probabilities
from franken_gguf.runner.engine.generation import Routes
from franken_gguf.runner.terminal.graphemes import columns, in_whole, spelled
from franken_gguf.runner.terminal.text import printable

# From sure to a surprise: the shade of a token whose probability is at least this.
_SHADES = ((0.9, "green"), (0.5, "yellow"), (0.1, "dark_orange"), (0.0, "red"))
_UNSURE = 0.5
"""Tokens less likely than this are listed with what might have come."""
_MOST_LISTED = 40
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "white", "bright_black")
_BAR = 20
_TOP_LAYERS = 3
_PERCENT = 11  # columns of a share, with its gaps
_MARGIN = 9  # of a line with an expert, beside its name and bar: letter, share, gaps


def probabilities(found: Probabilities, width: int) -> Group:
    """The answer, each token in the shade of its probability; those that were unsure in a list.

    A line of that list names as many other tokens as fit `width`.
    """
    answer = Text()
    for whole in in_whole([one.piece for one in found.tokens]):
        least = min(one.odds.probability for one in found.tokens[whole.first : whole.end])
        answer.append(_shown(whole.text), _shade(least))
    legend = Text("  ").join(Text(_range(n), shade) for n, (_, shade) in enumerate(_SHADES))
    unsure = [one for one in found.tokens if one.odds.probability < _UNSURE]
    listed = unsure[:_MOST_LISTED]
    room = width - max((columns(_quoted(one.piece)) for one in listed), default=0) - _PERCENT
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for one in listed:
        others = (pair for pair in one.alternatives if pair[0] != one.piece)
        table.add_row(
            Text(_quoted(one.piece), _shade(one.odds.probability)),
            _percent(one.odds.probability),
            _in(room, [f"{_quoted(piece)} {_percent(share)}" for piece, share in others]),
        )
    rest = len(unsure) - _MOST_LISTED
    more = [Text(f"and {rest} more below {round(100 * _UNSURE)} %", "dim")] if rest > 0 else []
    head = Text("less likely tokens, and what might have come:", "dim")
    below: list[RenderableType] = [Text(), head, table, *more]
    return Group(answer, Text(), legend, *(below if unsure else ()))


def _in(room: int, parts: list[str]) -> str:
    """As many of the parts as fit, the first at least."""
    while len(parts) > 1 and columns(", ".join(parts)) > room:
        parts = parts[:-1]
    return ", ".join(parts)


def _range(place: int) -> str:
    least = round(100 * _SHADES[place][0])
    return f"{least} % or more" if least else f"below {round(100 * _SHADES[place - 1][0])} %"


def _quoted(piece: bytes) -> str:
    return f"'{printable(spelled(piece))}'"


def _shade(probability: float) -> str:
    return next(shade for least, shade in _SHADES if probability >= least)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def experts(found: Experts, console: Console) -> Group:
    """Each expert's share; in colours the answer by its experts; the map where it is wanted."""
    parts: list[RenderableType] = [_shares(found, console.width)]
    if console.color_system and not console.no_color:
        parts += [Text(), _answer(found)]
    if found.has_map:
        parts += [Text(), *_grid(found, console.width)]
    return Group(*parts)


def _answer(found: Experts) -> Text:
    answer = Text()
    for whole in in_whole([piece for piece, _ in found.tokens]):
        answer.append(_shown(whole.text), _colour(_leading(found.tokens[whole.first][1])))
    return answer


def _name(names: Sequence[str], number: int) -> str:
    return printable(names[number]) if number < len(names) else f"expert {number}"


def _leading(routes: Routes) -> int:
    """The expert that most layers sent the token to first."""
    return Counter(used[0] for used in routes.values()).most_common(1)[0][0]


def _shares(found: Experts, width: int) -> Table:
    """A row for each expert: letter, name, share of all choices, the layers that chose it most."""
    by_layer = {
        layer: Counter(one for _, routes in found.tokens for one in routes[layer])
        for layer in sorted(found.tokens[0][1])
    }
    counts = sum(by_layer.values(), Counter[int]())
    names = [_name(found.names, number) for number in range(max(counts) + 1)]
    has_bars = width >= max(map(columns, names)) + _MARGIN + _BAR
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        share = counts[number] / counts.total()
        # Of equals the first layer.
        top = sorted(by_layer, key=lambda layer: -by_layer[layer][number])[:_TOP_LAYERS]
        most = ", ".join(str(layer) for layer in sorted(top) if by_layer[layer][number])
        table.add_row(
            Text(f"{_letter(number)}  {name}", _colour(number)),
            f"{100 * share:.0f} %",
            *([Text("#" * round(_BAR * share), _colour(number))] if has_bars else []),
            f"most in layers {most}" if most else "",
        )
    return table


def _grid(found: Experts, width: int) -> Iterator[RenderableType]:
    """A row for each layer, a column for each token: the letter of the first expert."""
    layers = sorted(found.tokens[0][1])
    label = len(str(layers[-1])) + 1
    shown = list(islice((routes for _, routes in found.tokens), max(1, width - label - 1)))
    part = f", the first {len(shown)}" if len(shown) < len(found.tokens) else ""
    yield Text(f"each layer's first choice (rows) for each token (columns{part})", "dim")
    for layer in layers:
        row = Text(f"{layer:>{label - 1}} ", "dim")
        for routes in shown:
            expert = routes[layer][0]
            row.append(_letter(expert), _colour(expert))
        yield row


def _letter(expert: int) -> str:
    return chr(ord("A") + expert) if expert < 26 else chr(ord("a") + (expert - 26) % 26)


def _colour(expert: int) -> str:
    return _COLOURS[expert % len(_COLOURS)]
