"""What --experts-used buys: perplexity, speed and the lean on eternal life, by experts per token.

    python benchmarks/experts_used.py MODEL.gguf TEXT... [--passages 4] [--threads N]

Perplexity is over passages of 256 tokens from the last tenth of each TEXT, with the standard error
of the loss's difference from the file's own number of experts, in nats. Speeds are processor time,
relative to that number in this run, since other work may slow the clock: a prompt of 256 tokens,
and 32 tokens of an answer. The lean is the mean log-odds of "eternal life" against a mortal one
over all wordings of `compare`, with its standard error.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.runner.compare.measure.questions import question
from franken_gguf.runner.compare.measure.tasks import Task, prepare
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.compare.results.metrics import lean, log_softmax
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.sequences import Continuation
from franken_gguf.runner.imatrix.texts import read_text
from franken_gguf.runner.sampling.settings import Sampling

TOKENS, ANSWER = 256, 32


@dataclass(frozen=True)
class Found:
    """The figures of one number of experts."""

    losses: NDArray[np.float64]
    """The mean loss of each passage."""
    prompt: float
    """Seconds of processor time for a token of a prompt."""
    answer: float
    """The same for a token of an answer."""
    leans: NDArray[np.float64]


def main() -> None:
    """Measure every number of experts and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    header = read_header(options.model)
    architecture = header.text("general.architecture")
    own = header.integer(f"{architecture}.expert_used_count")
    texts = [read_text(path) for path in options.texts]
    settings = Settings(0, 0.8, 1, ANSWER, options.threads or 1, "", 0, 0)
    (task,) = prepare(header, [question("eternal-life")], "", settings).prompts
    numbers = [own, *range(1, header.integer(f"{architecture}.expert_count") + 1)]
    found: dict[int, Found] = {}
    for number in dict.fromkeys(numbers):
        found[number] = measured(header, number, texts, task, options.passages, options.threads)
        print(line(number, found[number], found[own]), flush=True)


def measured(
    header: Header, used: int, texts: list[str], task: Task, passages: int, threads: int | None
) -> Found:
    """The figures with `used` experts on each token."""
    options = LoadOptions(
        n_ctx=max(512, task.n_ctx), n_outputs=TOKENS, n_threads=threads, experts_used=used
    )
    with Engine(header, options) as engine:
        losses, started = [], time.process_time()
        for text in texts:
            ids = engine.vocabulary.tokenize(text)
            ids = ids[len(ids) * 9 // 10 :]
            for start in np.linspace(0, len(ids) - TOKENS, passages).astype(int):
                passage = ids[start : start + TOKENS]
                engine.forget_from(0)
                scores = log_softmax(engine.logits(passage, 0))
                losses.append(-scores[np.arange(TOKENS - 1), passage[1:]].mean())
        prompt = (time.process_time() - started) / (TOKENS * len(losses))
        engine.clear()
        engine.evaluate(task.prompt)
        started = time.process_time()
        answered = sum(1 for _ in engine.generate(task.prompt, Sampling(temperature=0), ANSWER))
        answer = (time.process_time() - started) / answered
        return Found(np.array(losses), prompt, answer, leans(engine, task))


def leans(engine: Engine, task: Task) -> NDArray[np.float64]:
    """The lean of each wording."""
    engine.clear()
    first, second = task.answers
    wordings = [wording for orders in task.wordings for wording in orders]
    scores = engine.score(
        [Continuation(wording, answer) for wording in wordings for answer in (*first, *second)]
    )
    each = len(first) + len(second)
    return np.array(
        [
            lean(scores[start : start + len(first)], scores[start + len(first) : start + each])
            for start in range(0, len(scores), each)
        ]
    )


def line(used: int, found: Found, own: Found) -> str:
    """The figures beside those of the file's own number."""
    change = found.losses - own.losses
    error = change.std(ddof=1) / np.sqrt(len(change))
    spread = found.leans.std(ddof=1) / np.sqrt(len(found.leans))
    return (
        f"{used} experts: perplexity {np.exp(found.losses.mean()):.2f} "
        f"({change.mean():+.4f} ± {error:.4f}); prompt {own.prompt / found.prompt:.2f} and answer "
        f"{own.answer / found.answer:.2f} times as fast; "
        f"lean {found.leans.mean():+.2f} ± {spread:.2f}"
    )


if __name__ == "__main__":
    main()
