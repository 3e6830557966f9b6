"""Shows the probabilities of an answer's tokens and the experts that they were routed to."""

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

# The colour of a token whose probability is at least this.
_COLOUR_FROM = ((0.9, "green"), (0.5, "yellow"), (0.1, "dark_orange"), (0.0, "red"))
_UNSURE = 0.5
"""Less likely tokens are listed with their alternatives."""
_MOST_LISTED = 40
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "white", "bright_black")
_BAR = 20
_TOP_LAYERS = 3
_PERCENT = 11  # columns of a percentage and the gaps around it
_MARGIN = 9  # columns of an expert's row besides name and bar: letter, percentage, gaps


def probabilities(found: Probabilities, width: int, *, has_colours: bool = True) -> Group:
    """The answer, each token in the colour of its probability, and a list of the unlikely ones.

    A line of the list has as many alternatives as fit `width`, at least one. Without colours, there
    is no legend.
    """
    answer = Text()
    for whole in in_whole([token.piece for token in found.tokens]):
        least = min(one.odds.probability for one in found.tokens[whole.first : whole.end])
        answer.append(_shown(whole.text), _probability_colour(least))
    legend = Text("  ").join(Text(_range(n), colour) for n, (_, colour) in enumerate(_COLOUR_FROM))
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
            Text(_quoted(one.piece), _probability_colour(one.odds.probability)),
            _percent(one.odds.probability),
            _fitting(room, [f"{_quoted(piece)} {_percent(share)}" for piece, share in others]),
        )
    rest = len(unsure) - _MOST_LISTED
    more = [Text(f"and {rest} more below {round(100 * _UNSURE)} %", "dim")] if rest > 0 else []
    head = Text("unlikely tokens and their alternatives:", "dim")
    below: list[RenderableType] = [Text(), head, table, *more]
    coloured: list[RenderableType] = [answer, Text(), legend] if has_colours else [answer]
    return Group(*coloured, *(below if unsure else ()))


def _fitting(room: int, parts: list[str]) -> str:
    """As many of the parts as fit, at least the first."""
    while len(parts) > 1 and columns(", ".join(parts)) > room:
        parts = parts[:-1]
    return ", ".join(parts)


def _range(place: int) -> str:
    least = round(100 * _COLOUR_FROM[place][0])
    return f"{least} % or more" if least else f"below {round(100 * _COLOUR_FROM[place - 1][0])} %"


def _quoted(piece: bytes) -> str:
    return f"'{printable(spelled(piece))}'"


def _probability_colour(probability: float) -> str:
    return next(colour for least, colour in _COLOUR_FROM if probability >= least)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def experts(found: Experts, console: Console) -> Group:
    """Each expert's share, the answer in the experts' colours if there are any, and the map."""
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
    """The expert that is the first choice of most layers."""
    return Counter(used[0] for used in routes.values()).most_common(1)[0][0]


def _shares(found: Experts, width: int) -> Table:
    """A row per expert: letter, name, share of all choices, the layers that chose it most."""
    by_layer = {
        layer: Counter(expert for _, routes in found.tokens for expert in routes[layer])
        for layer in sorted(found.tokens[0][1])
    }
    counts = sum(by_layer.values(), Counter[int]())
    names = [_name(found.names, number) for number in range(max(counts) + 1)]
    has_bars = width >= max(map(columns, names)) + _MARGIN + _BAR
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        share = counts[number] / counts.total()
        # Ties go to the lower layer.
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
    """A row per layer, a column per token: the letter of the first choice."""
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
