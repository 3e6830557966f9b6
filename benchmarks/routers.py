"""The ways to make a router, beside each other: who works on whose text, and the perplexity of all.

    python benchmarks/routers.py RECIPE.yml TEXT... [--mode MODE]... [--load-bound B]...
                                 [--calibration-text FILE] [--folder DIR]

One TEXT for each expert, of its kind. The router is measured on TOKENS tokens from each of PLACES
in it; with a --load-bound, balanced is made once more, with FILE or what stands before these
places as its calibration text. "own" is the share of a text's tokens, over all layers, on which
its expert works; "won" the texts' passages on which it works more than any other, and for each
expert the recipe's own prompts; "load" the least and the most that one expert has of all tokens
in one layer (experts_per_token over experts would be even), then of each expert alone. First comes
how much the mean state m is in every token x of the texts, x m / |m|^2, in the base model: what
quantize/merge/load_balance.py relies on.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.calibration import passages
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.merge.recipe_file import ExpertRecipe, read_recipe
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.quantize.tokenizer.tokenizer_check import reference_tokenizer
from franken_gguf.runner.compare.results.metrics import log_softmax
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.hidden_states import hidden_states
from franken_gguf.runner.engine.probe import RouterProbe

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))
MODES = ("uniform_random", "hidden", "balanced")
PLACES, TOKENS, FIRST_SCORED = (0.8, 0.85, 0.9), 384, 64


def main() -> None:
    """Measure and print a line for each mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--mode", action="append", help=f"default: {' '.join(MODES)}")
    parser.add_argument("--load-bound", type=float, action="append", default=[])
    parser.add_argument("--calibration-text", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    texts = [path.read_text(encoding="utf-8") for path in options.texts]
    print(in_common(options.recipe, options.texts, options.folder), flush=True)
    beginnings = options.folder / "routers-calibration.txt"
    # As much of each text: a place in the whole is a place in each.
    least = min(map(len, texts)) * PLACES[0]
    beginnings.write_text("\n\n".join(text[: int(least)] for text in texts), encoding="utf-8")
    calibration = (options.calibration_text or beginnings).resolve()
    bounded = [f"calibration_text: {calibration}\nload_bound: {b}" for b in options.load_bound]
    modes = [(mode, "") for mode in options.mode or MODES]
    for mode, more in [*modes, *(("balanced", each) for each in bounded)]:
        recipe, model = (options.folder / f"router-{mode}.{end}" for end in ("yml", "gguf"))
        try:
            text = options.recipe.read_text(encoding="utf-8")
            recipe.write_text(re.sub(r"(?m)^gate_mode:.*", f"gate_mode: {mode}\n{more}", text))
            words = ["convert", str(recipe), "-q", "Q8_0", "-o", str(model), "--overwrite"]
            # Paths in it are then taken from where the recipe was.
            at = options.recipe.resolve().parent
            done = subprocess.run([COMMAND, *words], check=True, capture_output=True, cwd=at)
            print(
                f"{mode} {more[-4:]}: {measured(model, texts, read_recipe(options.recipe).experts)}"
            )
            print(done.stderr.decode(), end="", flush=True)
        finally:
            recipe.unlink(missing_ok=True)
            model.unlink(missing_ok=True)
    beginnings.unlink()


def in_common(recipe: Path, texts: Sequence[Path], folder: Path) -> str:
    """The mean state's part in each token's, over all layers and passages of the texts."""
    source = merge_source(recipe)
    tokenize = reference_tokenizer(source.base_folder)
    ids = [one for text in texts for one in passages(text, tokenize)]
    base, preset = source.base_source(), find_preset("Q8_0")
    states = np.concatenate(hidden_states(base, ids, preset, folder, of_routers=True), axis=1)
    mean = states.mean(axis=1)
    parts = np.einsum("lth,lh->lt", states, mean) / np.square(mean).sum(axis=1)[:, None]
    return (
        f"x m / |m|^2 over {parts.shape[1]:,} tokens: {parts.mean():.2f} +- "
        f"{parts.std(axis=1).mean():.2f}"
    )


def measured(model: Path, texts: list[str], experts: Sequence[ExpertRecipe]) -> str:
    """A line of figures for one GGUF file, and one for each expert."""
    probe = RouterProbe()
    header = read_header(model)
    shape = header.integer("llama.block_count"), header.integer("llama.expert_count")
    load, losses, own, won = np.zeros(shape), [], [], 0
    sizes = LoadOptions(n_ctx=512, n_threads=1, n_outputs=TOKENS)
    with Engine(header, sizes, probe=probe) as engine:
        for expert, text in enumerate(texts):
            loss, share = [], []
            for place in PLACES:
                start = int(len(text) * place)
                ids = engine.vocabulary.prompt(text[start : start + 8 * TOKENS])[:TOKENS]
                engine.forget_from(0)
                scores = log_softmax(engine.logits(ids))
                after = np.arange(FIRST_SCORED - 1, len(ids) - 1)
                loss.append(-scores[after, ids[FIRST_SCORED:]])
                at_work = work_of(probe, shape[1])
                load += at_work / len(texts) / len(PLACES)
                share.append(at_work[:, expert].mean())
                won += int(at_work.mean(axis=0).argmax() == expert)
            losses.append(float(np.mean(np.concatenate(loss))))
            own.append(float(np.mean(share)))
        prompts = []
        for expert, described in enumerate(experts):
            mine = []
            for text in described.positive:
                ids = engine.vocabulary.prompt(text)
                engine.forget_from(0)
                engine.logits(ids)
                mine.append(work_of(probe, shape[1]).mean(axis=0).argmax() == expert)
            prompts.append(f"{sum(mine)}/{len(mine)}")
    return (
        f"own {' '.join(f'{each:.2f}' for each in own)}, mean {np.mean(own):.2f}; "
        f"won {won} of {len(texts) * len(PLACES)}, prompts {' '.join(prompts)}; "
        f"load {load.min():.2f} to {load.max():.2f}; "
        f"perplexity {' '.join(f'{np.exp(each):.2f}' for each in losses)}, "
        f"all {np.exp(np.mean(losses)):.2f}"
        + "".join(
            f"\n  expert {number}: {one.mean():.2f}, {one.min():.2f} to {one.max():.2f}"
            for number, one in enumerate(load.T)
        )
    )


def work_of(probe: RouterProbe, experts: int) -> NDArray[np.float64]:
    """The share of the last tokens on which each expert works: [layers, experts]."""
    layers = (chosen for _, chosen in sorted(probe.chosen.items()))
    return np.array(
        [[(chosen == one).any(axis=1).mean() for one in range(experts)] for chosen in layers]
    )


if __name__ == "__main__":
    main()
