"""What a model thinks before it answers, apart from its answer, as llama.cpp's server has it."""

from __future__ import annotations

from franken_gguf.runner.conversation.thoughts import OPEN, ThoughtSplitter

from .bodies import Fields, wrong


def reasoning_begun(fields: Fields, prompt: str, prefix: str) -> str | None:
    """The text before an answer that tells whether it starts within thoughts.

    A prompt can end in <think>, as those of DeepSeek-R1 and QwQ do; an answer that is continued has
    a `prefix`. None if the request wants thoughts in the answer. Raises RequestError.
    """
    wanted = fields.text("reasoning_format", "auto")
    if wanted not in ("auto", "deepseek", "none"):
        wrong("reasoning_format", "auto, deepseek or none")
    if wanted == "none":
        return None
    return OPEN if not prefix and prompt.rstrip().endswith(OPEN) else prefix


class Reasoning:
    """Splits a streamed answer into members of a message: `feed` each piece, then call `end`."""

    def __init__(self, begun: str) -> None:
        self._splitter = ThoughtSplitter()
        self._splitter.feed(begun)
        self._has_thoughts = False
        self._spaces = ""

    def feed(self, piece: str) -> dict[str, str]:
        """{"reasoning_content", "content"}, either only if there is some of it."""
        return self._members(*self._splitter.feed(piece))

    def end(self) -> dict[str, str]:
        """The same of what was held back."""
        return self._members(*self._splitter.end())

    def _members(self, thoughts: str, answer: str) -> dict[str, str]:
        thoughts = self._spaces + thoughts if self._has_thoughts else thoughts.lstrip()
        shown = thoughts.rstrip()
        self._spaces = thoughts[len(shown) :]
        self._has_thoughts = self._has_thoughts or bool(shown)
        members = {"reasoning_content": shown, "content": answer}
        return {name: text for name, text in members.items() if text}


def split(text: str, begun: str) -> dict[str, str]:
    """The members of a whole answer; "content" is there in any case."""
    reasoning = Reasoning(begun)
    first, last = reasoning.feed(text), reasoning.end()
    found = {name: first.get(name, "") + last.get(name, "") for name in {**first, **last}}
    return {"content": "", **found}
