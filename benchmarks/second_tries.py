"""Cost of changing a long story: a regenerated answer, a swipe, an edit, a branch.

    python benchmarks/second_tries.py MODEL.gguf [--threads N] [--turns 40]

After a story of --turns turns with answers of 40 tokens, every command that changes history runs
once. Prints the tokens of the prompt, how many of them were evaluated, and the seconds to the first
piece of the answer. "cold" evaluates the whole story anew.
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


def run(dialogue: Dialogue, line: str) -> None:
    """Run a line without printing figures."""
    outcome = respond(dialogue, line)
    if isinstance(outcome, Answer):
        outcome.read()
    dialogue.save()


def timed(dialogue: Dialogue, name: str, line: str) -> None:
    """Run a line that gives an answer and print its cost."""
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
    """Tell the story, then change it in every way."""
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
            run(dialogue, f"Go on with chapter {number} of the story of the lighthouse keeper.")
        run(dialogue, "/save tale")
        print(f"{'':22} {'prompt':>6} {'evaluated':>9} {'seconds':>9}")
        chat.engine.forget_from(0)
        timed(dialogue, "cold", "/regen")
        timed(dialogue, "/regen", "/regen")
        run(dialogue, "/swipe 1")
        timed(dialogue, "/swipe, a question", NEXT)
        timed(dialogue, "/edit TEXT", "/edit And what did the keeper hear?")
        timed(dialogue, "/impersonate", "/impersonate")
        run(dialogue, "/branch dark")
        timed(dialogue, "/branch, a question", NEXT)
        run(dialogue, "/checkout tale")
        timed(dialogue, "/checkout, a question", "And what did the keeper do then?")
        dialogue.close()


if __name__ == "__main__":
    main()
