"""Trains the routers of a GGUF file on texts, for the verbs that do so."""

from __future__ import annotations

from collections.abc import Sequence
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
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.task_status import working

_RAM_SHARE = 0.5
_FOREIGN = 6.0  # nats for a token: half of what guessing costs


def train_router(
    header: Header, texts: Sequence[Path], steps: int, notices: Console
) -> tuple[Trained, list[str]]:
    """The routers of the mixture in `header` after training, and the names of the texts.

    The package's own calibration set is always one of the texts. Raises FrankenError.
    """
    mixture = Mixture(header, int(_RAM_SHARE * available_memory()))
    with load_vocabulary(header.path) as vocabulary:
        read = [_tokenized(str(path), read_text(path), vocabulary) for path in texts]
        read.append(_own_text(header, vocabulary))
        passages = split(read, vocabulary.bos, steps * SEQUENCES)
    task = f"training the router on {steps * SEQUENCES} passages of {len(read)} texts"
    names = [text.name for text in read]
    with working(notices, task) as done:
        trained = train(
            mixture,
            mixture.rows(),
            passages.training,
            passages.held_out,
            steps,
            lambda step, loss: done(f"{task}: step {step} of {steps}, loss {loss:.3f}"),
        )
    for name, before in zip(names, trained.before, strict=True):
        if before.losses.mean() > _FOREIGN:
            say(notices, f"{name}: the model hardly knows such text; train on its own language")
    return trained, names


def _tokenized(name: str, text: str, vocabulary: Vocabulary) -> TokenText:
    return TokenText(name, vocabulary.tokenize(text, parse_special=False))


def _own_text(header: Header, vocabulary: Vocabulary) -> TokenText:
    """The calibration set, its dialogues as the model's chat template shows them."""
    template = stored_template(header)
    if not template:
        return _tokenized(BUILT_IN, built_in_text(plainly), vocabulary)
    with Template(template, special_tokens(header)) as rendered:
        text = built_in_text(partial(rendered.render, add_generation_prompt=False))
    return TokenText(BUILT_IN, vocabulary.tokenize(text))
