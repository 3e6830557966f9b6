"""What a second try costs in a long story: an answer given again, a swipe, an edit, a branch.

    python benchmarks/second_tries.py MODEL.gguf [--threads N] [--turns 40]

A story of so many turns is told, answers of 40 tokens; then every kind of second try is made with
what the commands of `chat` run. Figures: tokens of the prompt, those of them that were evaluated,
seconds to the answer's first piece. "cold" is the whole story once, evaluated anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from franken_gguf.runner import LoadOptions, Sessions, load
from franken_gguf.runner.chat.answer import Answer
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.impersonation import Draft
from franken_gguf.runner.commands.command_table import respond
from franken_gguf.runner.common.hardware import default_threads

NEXT = "And what did the keeper see from the window then?"


def told(dialogue: Dialogue, line: str) -> None:
    """What a line brings, without figures."""
    outcome = respond(dialogue, line)
    if isinstance(outcome, Answer):
        outcome.read()
    dialogue.save()


def timed(dialogue: Dialogue, name: str, line: str) -> None:
    """What a line that brings an answer costs."""
    started = time.perf_counter()
    outcome = respond(dialogue, line)
    assert isinstance(outcome, Answer | Draft)
    if isinstance(outcome, Draft):
        outcome.read()
        seconds = outcome.generation.prompt_seconds
    else:
        pieces = iter(outcome)
        next(pieces, None)
        seconds = time.perf_counter() - started
        for _ in pieces:
            pass
    done = outcome.generation
    print(f"{name:22} {done.prompt_tokens:6} {done.prompt_evaluated:9} {seconds:9.2f}")
    dialogue.save()


def main() -> None:
    """Tell the story, then try everything again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    options = LoadOptions(n_ctx=8192, n_threads=arguments.threads)
    sampling = {"temperature": 0.8, "seed": 1}
    with (
        tempfile.TemporaryDirectory() as folder,
        load(arguments.model, options, sampling=sampling, max_tokens=40) as chat,
    ):
        dialogue = Dialogue(chat, arguments.model.name, Sessions(Path(folder)), autosave=True)
        for number in range(arguments.turns):
            told(dialogue, f"Go on with chapter {number} of the story of the lighthouse keeper.")
        told(dialogue, "/save tale")
        print(f"{'':22} {'prompt':>6} {'evaluated':>9} {'seconds':>9}")
        chat.engine.forget_from(0)
        timed(dialogue, "cold", "/regen")
        timed(dialogue, "/regen", "/regen")
        told(dialogue, "/swipe 1")
        timed(dialogue, "/swipe, a question", NEXT)
        timed(dialogue, "/edit TEXT", "/edit And what did the keeper hear?")
        timed(dialogue, "/impersonate", "/impersonate")
        told(dialogue, "/branch dark")
        timed(dialogue, "/branch, a question", NEXT)
        told(dialogue, "/checkout tale")
        timed(dialogue, "/checkout, a question", "And what did the keeper do then?")
        dialogue.close()


if __name__ == "__main__":
    main()
