"""Trains the routers of a GGUF file on texts, for the verbs that do so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from rich.console import Console

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.router_training.kept_training import KeptTraining, kept_training
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.passages import Split, TokenText, split
from franken_gguf.quantize.router_training.train import SEQUENCES, Report, Trained, begin, train
from franken_gguf.quantize.router_training.training_state import load
from franken_gguf.runner.common.hardware import available_memory
from franken_gguf.runner.engine.vocabulary import Vocabulary, load_vocabulary
from franken_gguf.runner.imatrix.partial import content_key
from franken_gguf.runner.imatrix.texts import BUILT_IN, built_in_text, plainly, read_text
from franken_gguf.runner.prompt.template import (
    PromptError,
    Template,
    special_tokens,
    stored_template,
)
from franken_gguf.runner.terminal.text import duration
from franken_gguf.runner.ui import router_screen
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.task_status import working

_VERSION = 1
"""Of the training: a state of another one is not resumed."""
_RAM_SHARE = 0.5
_SHREDDED = 1.5
"""Tokens for a character; one of a language that the tokenizer was made for has less than one."""


@dataclass(frozen=True)
class TrainedRouter:
    """Trained routers, the texts' names, and the files to delete once the rows are written."""

    trained: Trained
    names: list[str]
    kept: KeptTraining


@contextmanager
def trained_router(
    header: Header, texts: Sequence[Path], steps: int, folder: Path, notices: Console
) -> Iterator[TrainedRouter]:
    """Yield the routers of the mixture in `header` after training.

    The package's own calibration set is always one of the texts. Whatever ends this, or the block,
    early: what is trained is kept in `folder`, and the same call resumes it. Raises FrankenError.
    """
    mixture = Mixture(header, int(_RAM_SHARE * available_memory()))
    names, passages = _passages(header, texts, steps, notices)
    rows = mixture.rows()
    content = [each.tobytes() for each in (passages.training, *passages.held_out)]
    digest = sha256(b"".join([rows.tobytes(), *content])).hexdigest()
    with kept_training(folder, content_key(header, _VERSION, steps, digest)[:24]) as kept:
        try:
            with working(notices, f"training the router on {', '.join(names)}") as update:
                report = _reporter(update)
                state = load(kept.state, rows, passages.held_out)
                if state:
                    say(notices, f"resuming after step {state.done} of {steps}")
                else:
                    state = begin(mixture, rows, passages.held_out, report)
                trained = train(mixture, passages, steps, state, kept.state, report)
            del mixture  # its weights are not needed while the caller writes the rows
            for line in router_screen.warnings(names, trained):
                say(notices, line)
            yield TrainedRouter(trained, names, kept)
        except KeyboardInterrupt as interrupt:
            if kept.state.exists() and not interrupt.args:
                interrupt.args = ("Interrupted; run the same command to resume.",)
            raise


def _passages(
    header: Header, texts: Sequence[Path], steps: int, notices: Console
) -> tuple[list[str], Split]:
    """The texts' names, and what to train on and to judge by."""
    with load_vocabulary(header.path) as vocabulary:
        read = [_text(path, vocabulary, notices) for path in texts]
        read.append(_own_text(header, vocabulary))
        return [text.name for text in read], split(read, vocabulary.bos, steps * SEQUENCES)


def _reporter(update: Callable[[str], None]) -> Report:
    """Shows each report as a line, with the time that is left at the speed of this run."""
    first: dict[str, tuple[float, int]] = {}

    def report(work: str, done: int, total: int, loss: float) -> None:
        line = f"{work} {done} of {total}, loss {loss:.3f}"
        started, before = first.setdefault(work, (time.monotonic(), done))
        if before < done < total:
            each = (time.monotonic() - started) / (done - before)
            line += f", {duration(each * (total - done))} left"
        update(line)

    return report


def _text(path: Path, vocabulary: Vocabulary, notices: Console) -> TokenText:
    content = read_text(path)
    tokens = vocabulary.tokenize(content, parse_special=False)
    each = len(tokens) / len(content)
    if each > _SHREDDED:
        say(
            notices,
            f"{path}: the tokenizer needs {each:.1f} tokens per character; the model was hardly "
            "trained on this language, and training the router on it helps little",
        )
    return TokenText(str(path), tokens)


def _own_text(header: Header, vocabulary: Vocabulary) -> TokenText:
    """The calibration set, its dialogues as the model's chat template shows them if it can."""
    if template := stored_template(header):
        with suppress(PromptError), Template(template, special_tokens(header)) as compiled:
            render = partial(compiled.render, add_generation_prompt=False)
            return TokenText(BUILT_IN, vocabulary.tokenize(built_in_text(render)))
    return TokenText(BUILT_IN, vocabulary.tokenize(built_in_text(plainly), parse_special=False))
