"""Renders a conversation as a prompt, with the model's own chat template."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from types import TracebackType

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.conversation.thoughts import CLOSE, OPEN, closed, is_thinking

DEADLINE = 10.0  # seconds for one rendering; a normal template takes milliseconds

# llama.cpp's fallback, too, for a model without a template.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_UNUSABLE = "the model's chat template cannot be used: "
# A model that lacks these tokens writes them as text; the answer ends there, too.
CHATML_STOPS = ("<|im_end|>", "<|im_start|>")


class PromptError(FrankenError):
    """The model's chat template cannot be used."""


class Template:
    """A chat template, rendered in a child process with bounds on time, memory and output.

    `source` is the template in the model file; None if it has none: then ChatML is used, and
    `is_fallback` is true. `tokens` are the special tokens that templates can refer to
    ("bos_token", "eos_token"). `deadline` is in seconds, for one rendering. Close it, or use it
    in a `with` statement.
    """

    def __init__(
        self, source: str | None, tokens: Mapping[str, str], *, deadline: float = DEADLINE
    ) -> None:
        self.is_fallback = source is None
        self.stops = CHATML_STOPS if source is None else ()
        self.source = CHATML if source is None else source
        self.tokens = tokens
        self._deadline = deadline
        self._lock = threading.Lock()  # a request and its reply belong together
        # Started now, so that it is ready when the model is loaded.
        self._child: subprocess.Popen[str] | None = self._start()
        self._is_ready = False

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt text, ending where the model's answer begins. Raises PromptError.

        If the template refuses the messages or drops the system text, the next of `shapes` is
        tried.
        """
        reason = ""
        for shape in shapes(messages):
            turns = [{"role": message.role, "content": _content(message)} for message in shape]
            reply = self._ask(
                {"messages": turns, "add_generation_prompt": add_generation_prompt, **self.tokens}
            )
            if "error" in reply:
                reason = reply["error"]
            elif all(m.content.strip() in reply["text"] for m in shape if m.role == "system"):
                return reply["text"]
            else:
                reason = "it drops the system text"
        raise PromptError(_UNUSABLE + reason)

    def render_up_to(self, messages: Sequence[Message], prefix: str) -> str:
        """The prompt text up to the end of `prefix`, the answer's start. Raises PromptError."""
        start = self.render(messages)
        if prefix and _opens_thoughts(start):
            begun = prefix.replace(OPEN, "", 1) if OPEN in prefix else f"\n{CLOSE}\n\n{prefix}"
            return start + begun
        # A template that removes thoughts would close a block that is still open.
        if not prefix or is_thinking(prefix):
            return start + prefix
        # As the template writes an existing answer (some put a space before it).
        answered = [*messages, Message("assistant", prefix)]
        whole = self.render(answered, add_generation_prompt=False)
        place = whole.find(prefix, len(start)) if whole.startswith(start) else -1
        return whole[: place + len(prefix)] if place >= 0 else start + prefix

    @cached_property
    def opens_thoughts(self) -> bool:
        """Whether a prompt ends in <think>, as DeepSeek-R1's: the answer starts within thoughts."""
        return _opens_thoughts(self.render([Message("user", "")]))

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
        # -I ignores the current folder, which may contain a jinja2.py; our own path is passed on.
        run = "from franken_gguf.runner.prompt import template_process; template_process.main()"
        code = f"import sys; sys.path[:] = sys.argv[1:]; {run}"
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", code, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            start_new_session=True,  # so that the terminal's Ctrl-C does not reach the child
        )
        _write(child, {"template": self.source})
        return child

    def _ask(self, request: dict[str, object]) -> dict[str, str]:
        with self._lock:
            return self._asked(request)

    def _asked(self, request: dict[str, object]) -> dict[str, str]:
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
                raise PromptError(f"{_UNUSABLE}it did not finish within {self._deadline:g} seconds")
            raise PromptError(f"{_UNUSABLE}its process died, out of memory or out of stack")
        reply: dict[str, str] = json.loads(line)
        return reply


def _opens_thoughts(prompt: str) -> bool:
    return prompt.rstrip().endswith(OPEN)


def _write(child: subprocess.Popen[str], request: dict[str, object]) -> None:
    assert child.stdin is not None
    # A dead child is noticed when its reply is read.
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()


def _content(message: Message) -> str:
    """What the template gets of a message: it looks for the end of thoughts to leave them out."""
    return closed(message.content) if message.role == "assistant" else message.content


def stored_template(header: Header) -> str | None:
    """The chat template in a GGUF file's metadata; None if there is none. Raises GGUFError."""
    key = "tokenizer.chat_template"
    return header.text(key) if key in header.metadata else None


def special_tokens(header: Header) -> dict[str, str]:
    """The special tokens that templates refer to, as text; only those that the GGUF file has."""
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
    """The same text in the forms that templates accept, the most faithful first, each once.

    First the messages as they are; then with neighbours of one role joined; then, for templates
    without a system role or that require the user to speak first, with the system text at the
    start of the first user turn, or as a user turn of its own before a greeting.
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
