"""How good routers are, between one by chance and the best choice of experts.

    python benchmarks/router_ceiling.py RANDOM.gguf OTHER.gguf... --text FILE... [--whole FILE...]
                                        [--base BASE.gguf] [--passages N]

The files are one mixture with several routers; the first is the one by chance. Each text is one
kind, measured in passages of 128 tokens with the weights of the first file: the last tenth of each
--text, and all of each --whole. An "expert" is a dense model made of that expert alone, "one
expert" the best of them over all texts, and "base" a dense model in its own file, of the same
shape. "Best by text" is the expert with the smallest loss on a text, which a perfect router that
chooses one expert could find; "best by token" the smallest loss of any expert at each token, which
looks at the answer: no router can reach it. Losses are nats for a token, with the standard error,
over passages, of the difference from the first file. The lines after the table say how much of the
gap between a file and the best choices the files after it close.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.router_training.layers import Expert
from franken_gguf.quantize.router_training.loss import measure
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.passages import TOKENS
from franken_gguf.runner.engine.vocabulary import Vocabulary, load_vocabulary
from franken_gguf.runner.imatrix.texts import read_text

MEMORY = 4 << 30
Losses = NDArray[np.floating]
"""[texts, passages, tokens]."""


class OneExpert(Mixture):
    """The dense model of one expert."""

    def __init__(self, whole: Mixture, number: int) -> None:
        """Shares the weights that `whole` has read."""
        self.__dict__.update(whole.__dict__)
        self._whole, self._chosen = whole, number
        self.experts = self.used = 1

    def expert(self, layer: int, number: int) -> Expert:
        """The one expert of a layer."""
        return self._whole.expert(layer, self._chosen)


class Dense(OneExpert):
    """A dense model, such as the mixture's base, in a file of its own."""

    def __init__(self, whole: Mixture, header: Header) -> None:
        """Reads the metadata, and what the file lacks, from `whole`."""
        super().__init__(whole, 0)
        self._kept = {}
        own = {tensor.name: (header.path, tensor) for tensor in header.tensors}
        self._tensors = whole._tensors | own

    def expert(self, layer: int, number: int) -> Expert:
        """The feed-forward network of a layer."""
        names = (f"blk.{layer}.ffn_{name}.weight" for name in ("gate", "up", "down"))
        return Expert(*map(self.matrix, names))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--whole", type=Path, action="append", default=[])
    parser.add_argument("--base", type=Path)
    parser.add_argument("--passages", type=int, default=4)
    options = parser.parse_args()
    mixture = Mixture(read_header(options.models[0]), MEMORY)
    with load_vocabulary(options.models[0]) as vocabulary:
        parts = [(path, 0.9) for path in options.text] + [(path, 0.0) for path in options.whole]
        texts = np.stack(
            [held_out(path, start, vocabulary, options.passages) for path, start in parts]
        )
    names = [path.stem[:12] for path, _ in parts]
    print("".join(f"{name:>20}" for name in ["", *names, "all"]), flush=True)
    ways: dict[str, Losses] = {}

    def measured(name: str, way: Mixture, rows: F32) -> None:
        ways[name] = losses(way, rows, texts)
        print_row(ways, name)

    for model in options.models:
        measured(model.stem[-18:], mixture, Mixture(read_header(model), 0).rows())
    none = np.zeros((mixture.layers, 1, mixture.hidden), np.float32)
    if options.base:
        measured("base", Dense(mixture, read_header(options.base)), none)
    for number in range(mixture.experts):
        measured(f"expert {number}", OneExpert(mixture, number), none)
    mixture.used = mixture.experts
    measured("all experts", mixture, 0 * mixture.rows())
    ways |= choices(np.stack([ways[f"expert {number}"] for number in range(mixture.experts)]))
    for name in ("best by text", "best by token"):
        print_row(ways, name)
    routers = [model.stem[-18:] for model in options.models]
    for number, router in enumerate(routers):
        print_gaps(ways, router, [*routers[number + 1 :], "one expert", "all experts"])


def choices(single: NDArray[np.floating]) -> dict[str, Losses]:
    """The best choices of one expert, given the losses of each, [experts, texts, ...]."""
    by_text = single.mean(axis=(2, 3)).argmin(axis=0)
    return {
        "one expert": single[single.mean(axis=(1, 2, 3)).argmin()],
        "best by text": single[by_text, np.arange(single.shape[1])],
        "best by token": single.min(axis=0),
    }


def held_out(path: Path, start: float, vocabulary: Vocabulary, count: int) -> NDArray[np.int64]:
    """`count` passages of TOKENS tokens, evenly spread over a text from the share `start` on."""
    tokens = vocabulary.tokenize(read_text(path))
    tokens = tokens[int(len(tokens) * start) :]
    starts = np.linspace(0, len(tokens) - TOKENS, count).astype(int)
    passages = np.array([tokens[start : start + TOKENS] for start in starts])
    if vocabulary.bos is not None:
        passages[:, 0] = vocabulary.bos
    return passages


def losses(mixture: Mixture, rows: F32, texts: NDArray[np.int64]) -> Losses:
    """The losses on each text."""
    return np.stack([measure(mixture, rows, text).losses for text in texts])


def print_row(ways: Mapping[str, Losses], name: str) -> None:
    """A line of the table."""
    found, first = ways[name], next(iter(ways.values()))
    cells = [*found, found.reshape(-1, found.shape[-1])]
    starts = [*first, first.reshape(-1, first.shape[-1])]
    line = f"{name:>20}"
    for cell, start in zip(cells, starts, strict=True):
        each = (cell - start).mean(axis=1)
        error = each.std(ddof=1) / np.sqrt(len(each))
        line += f"{cell.mean():>13.4f} ±{error:.3f}"
    print(line, flush=True)


def print_gaps(ways: Mapping[str, Losses], router: str, names: Sequence[str]) -> None:
    """How much of the gap between a router and the best choices these close."""
    for oracle in ("best by text", "best by token"):
        gap = (ways[router] - ways[oracle]).mean(axis=2).ravel()
        low, high = gap.mean() + np.array([-2, 2]) * gap.std(ddof=1) / np.sqrt(len(gap))
        print(f"{oracle} is {gap.mean():.4f} better than {router} ({low:.4f} to {high:.4f})")
        for name in names if low > 0 else ():
            gain = (ways[router] - ways[name]).mean(axis=2).ravel()
            part, least, most = gain.mean() / gap.mean(), *interval(gain, gap)
            print(
                f"{name} closes {100 * part:.0f} % of the gap between {router} and {oracle} "
                f"(95 % interval {100 * least:.0f} to {100 * most:.0f})"
            )


def interval(gain: Losses, gap: Losses) -> tuple[float, float]:
    """Of the quotient of the means, over resampled passages."""
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(gain), (2000, len(gain)))
    low, high = np.quantile(gain[drawn].mean(axis=1) / gap[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
