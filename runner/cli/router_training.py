"""Trains the routers of a GGUF file on texts, for the verbs that do so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.passages import TokenText, split
from franken_gguf.quantize.router_training.train import SEQUENCES, Trained, train
from franken_gguf.runner.common.hardware import available_memory
from franken_gguf.runner.engine.vocabulary import Vocabulary, load_vocabulary
from franken_gguf.runner.imatrix.texts import BUILT_IN, built_in_text, plainly, read_text
from franken_gguf.runner.prompt.template import (
    PromptError,
    Template,
    special_tokens,
    stored_template,
)
from franken_gguf.runner.terminal.text import duration
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.task_status import working

_RAM_SHARE = 0.5
_FOREIGN = 6.0
"""Nats for a token: half of what guessing costs."""


def train_router(
    header: Header, texts: Sequence[Path], steps: int, notices: Console
) -> tuple[Trained, list[str]]:
    """The routers of the mixture in `header` after training, and the names of the texts.

    The package's own calibration set is always one of the texts. Raises FrankenError.
    """
    mixture = Mixture(header, int(_RAM_SHARE * available_memory()))
    with load_vocabulary(header.path) as vocabulary:
        read = [TokenText(str(path), _tokens(vocabulary, read_text(path))) for path in texts]
        read.append(_own_text(header, vocabulary))
        passages = split(read, vocabulary.bos, steps * SEQUENCES)
    names = [text.name for text in read]
    with working(notices, f"training the router on {', '.join(names)}") as update:
        report = _reporter(update, steps)
        rows = mixture.rows()
        trained = train(mixture, rows, passages.training, passages.held_out, steps, report)
    for name, before in zip(names, trained.before, strict=True):
        if before.losses.mean() > _FOREIGN:
            say(notices, f"{name}: the model hardly knows such text; training on it helps little")
    return trained, names


def _reporter(update: Callable[[str], None], steps: int) -> Callable[[int, float], None]:
    started: list[float] = []

    def report(done: int, loss: float) -> None:
        started.append(time.monotonic())
        line = f"training the router: step {done} of {steps}, loss {loss:.3f}"
        if done > 1:
            each = (started[-1] - started[0]) / (done - 1)
            line += f", {duration(each * (steps - done))} left"
        update(line)

    return report


def _tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    return vocabulary.tokenize(text, parse_special=False)


def _own_text(header: Header, vocabulary: Vocabulary) -> TokenText:
    """The calibration set, its dialogues as the model's chat template shows them if it can."""
    if template := stored_template(header):
        with suppress(PromptError), Template(template, special_tokens(header)) as compiled:
            render = partial(compiled.render, add_generation_prompt=False)
            return TokenText(BUILT_IN, vocabulary.tokenize(built_in_text(render)))
    return TokenText(BUILT_IN, _tokens(vocabulary, built_in_text(plainly)))
