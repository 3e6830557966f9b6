"""A conversation becomes the text the model was trained on, by the model's own chat template."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from types import TracebackType

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.conversation.conversation import Message

DEADLINE = 10.0  # seconds for one rendering; a well-meant template takes milliseconds

# What llama.cpp, too, falls back to for a model without a template.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_UNUSABLE = "the model's chat template cannot be used: "
# A model without these as tokens spells them out: the answer ends there all the same.
CHATML_STOPS = ("<|im_end|>", "<|im_start|>")


class PromptError(FrankenError):
    """The model's chat template cannot be used; the text says why, and how to fix it."""


class Template:
    """A chat template, rendered in a child process with bounds on time, memory and output.

    `source` is the template as the model file holds it, None where it holds none: then ChatML is
    used, and `is_fallback` says so. `tokens` are the special tokens that templates may name
    ("bos_token", "eos_token"). `deadline` is in seconds, for one rendering. Close it, or use it
    in a `with` statement.
    """

    def __init__(
        self, source: str | None, tokens: Mapping[str, str], *, deadline: float = DEADLINE
    ) -> None:
        self.is_fallback = source is None
        self.stops = CHATML_STOPS if source is None else ()
        self.source = CHATML if source is None else source
        self._tokens = tokens
        self._deadline = deadline
        # Started at once: it gets ready while the model loads.
        self._child: subprocess.Popen[str] | None = self._start()
        self._is_ready = False

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt text, ending where the model's answer begins. Raises PromptError.

        Where the template refuses the messages, or leaves the system text out, it gets them in
        the next of the shapes that `shapes` names.
        """
        reason = ""
        for shape in shapes(messages):
            turns = [{"role": message.role, "content": message.content} for message in shape]
            reply = self._ask(
                {"messages": turns, "add_generation_prompt": add_generation_prompt, **self._tokens}
            )
            if "error" in reply:
                reason = reply["error"]
            elif all(m.content.strip() in reply["text"] for m in shape if m.role == "system"):
                return reply["text"]
            else:
                reason = "it leaves the system text out"
        raise PromptError(_UNUSABLE + reason)

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> Template:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[str]:
        # Isolated from the current folder, which may hold any jinja2.py; our own path is handed on.
        run = "from franken_gguf.runner.prompt import template_process; template_process.main()"
        code = f"import sys; sys.path[:] = sys.argv[1:]; {run}"
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", code, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            start_new_session=True,  # the terminal's Ctrl-C is for us, not for the child
        )
        _write(child, {"template": self.source})
        return child

    def _ask(self, request: dict[str, object]) -> dict[str, str]:
        if self._child is None:
            self._child = self._start()
            self._is_ready = False
        if not self._is_ready:
            compiled = self._reply(self._child)
            if "error" in compiled:
                self.close()
                raise PromptError(_UNUSABLE + compiled["error"])
            self._is_ready = True
        _write(self._child, request)
        return self._reply(self._child)

    def _reply(self, child: subprocess.Popen[str]) -> dict[str, str]:
        assert child.stdout is not None
        started = time.monotonic()
        timer = threading.Timer(self._deadline, child.kill)
        timer.start()
        try:
            line = child.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.close()
            if time.monotonic() - started >= self._deadline:
                raise PromptError(f"{_UNUSABLE}it does not end within {self._deadline:g} seconds")
            raise PromptError(f"{_UNUSABLE}its process died, out of memory or out of stack")
        reply: dict[str, str] = json.loads(line)
        return reply


def _write(child: subprocess.Popen[str], request: dict[str, object]) -> None:
    assert child.stdin is not None
    # A child that has died is noticed where its reply is read.
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()


def stored_template(header: Header) -> str | None:
    """The chat template in a GGUF file's metadata; None where there is none. Raises GGUFError."""
    key = "tokenizer.chat_template"
    return header.text(key) if key in header.metadata else None


def special_tokens(header: Header) -> dict[str, str]:
    """The special tokens that templates name, as text, as far as the GGUF file knows them."""
    stored = header.metadata.get("tokenizer.ggml.tokens")
    texts = stored.data if stored is not None and isinstance(stored.data, list) else []
    found = {}
    for name, key in (
        ("bos_token", "bos_token_id"),
        ("eos_token", "eos_token_id"),
        ("unk_token", "unknown_token_id"),
        ("pad_token", "padding_token_id"),
    ):
        token = header.integer(f"tokenizer.ggml.{key}", -1)
        if 0 <= token < len(texts) and isinstance(texts[token], str):
            found[name] = texts[token]
    return found


def shapes(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """The same words in the shapes that templates take, the truest first, each one once.

    As they are; neighbours of one role made one turn; and, for templates that know no system role
    or want the user to speak first, the system text at the head of the first user turn, or before
    a greeting as a user turn of its own.
    """
    seen: list[list[Message]] = []
    for shape in (list(messages), _merged(messages), _merged(_folded(messages))):
        if shape not in seen:
            seen.append(shape)
            yield shape


def _merged(messages: Sequence[Message]) -> list[Message]:
    return [
        Message(role, "\n\n".join(message.content for message in turns))
        for role, turns in groupby(messages, key=lambda message: message.role)
    ]


def _folded(messages: Sequence[Message]) -> list[Message]:
    system = [Message("user", message.content) for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if turns and turns[0].role == "assistant" and not system:
        system = [Message("user", "")]
    return system + turns
