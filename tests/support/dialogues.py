"""Dialogues with the real SmolLM2, without a screen, and what each line brings in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from franken_gguf.runner import Answer, Chat, Conversation, LoadOptions, Sessions, load
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.replay import Replay
from franken_gguf.runner.commands.command_table import respond
from franken_gguf.runner.commands.general_commands import Edit
from franken_gguf.runner.sampling.settings import Sampling
from support.models import smollm2

FRANCE, PARIS = "What is the capital of France?", "The capital of France is Paris."
ITALY, ROME = "What is the capital of Italy?", "The capital of Italy is Rome."


def small_chat(n_ctx: int) -> Chat:
    """A chat with SmolLM2 on one thread of the CPU; close it."""
    return load(smollm2(), LoadOptions(n_ctx=n_ctx, n_threads=1, n_gpu_layers=0))


@contextmanager
def new_dialogue(
    chat: Chat, folder: Path, *, system: str = "", max_tokens: int | None = None
) -> Iterator[Dialogue]:
    """A greedy dialogue from its start, saved in `folder`/sessions."""
    chat.sampling = Sampling(temperature=0, seed=1)
    chat.max_tokens = max_tokens
    dialogue = Dialogue(chat, "smollm2.gguf", Sessions(folder / "sessions"), autosave=True)
    dialogue.switch_to(None, Conversation(system))
    yield dialogue
    dialogue.close()


def do(dialogue: Dialogue, line: str, edit: Edit | None = None) -> str:
    """What a line brings, as text: a notice, or an answer once it has come. Both are saved."""
    outcome = respond(dialogue, line, edit)
    if isinstance(outcome, Answer):
        outcome.read()
        dialogue.totals.add(outcome)
        outcome = outcome.text
    elif isinstance(outcome, Replay):
        outcome = "\n".join([outcome.notice, *(line.text for line in outcome.lines)])
    assert isinstance(outcome, str)
    dialogue.save()
    return outcome


def said(dialogue: Dialogue) -> list[str]:
    """The messages of a dialogue, without who wrote them."""
    return [message.content for message in dialogue.chat.conversation.messages]
