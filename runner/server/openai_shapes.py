"""The JSON of OpenAI's API: completions, chat completions, their chunks and log probabilities."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from time import time
from typing import Any

from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.engine.vocabulary import Vocabulary

from .completing import Finished, Token
from .llama_cpp_shapes import spelled, timings
from .reasoning import split

_FINGERPRINT = f"franken-gguf-{version('franken-gguf')}"


@dataclass(frozen=True)
class Shape:
    """Words the answers to one request: those of a chat, or of a plain completion."""

    is_chat: bool
    model: str
    vocabulary: Vocabulary
    n: int = 1
    """Answers to each prompt."""
    begun: str | None = None
    """The text before a chat's answer, see `reasoning_begun`; None leaves thoughts in it."""
    created: int = field(default_factory=lambda: int(time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def whole(self, answers: Sequence[tuple[list[Token], Finished]], echo: str) -> dict[str, Any]:
        """All answers, `echo` in front of each text."""
        choices = [self._choice(n, *answer, echo) for n, answer in enumerate(answers)]
        done = [finished for _, finished in answers]
        kind = "chat.completion" if self.is_chat else "text_completion"
        found = self._head(kind, choices) | {"usage": usage(done, self.n)}
        return found | {"timings": timings(done[-1].generation)}

    def opening(self, index: int, text: str = "") -> dict[str, Any]:
        """The first event of an answer: its role, or the text that it echoes."""
        delta = {"role": "assistant", "content": text} if self.is_chat else text
        return self._chunk(index, delta, None)

    def token(
        self, index: int, item: Token, offset: int, delta: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The event of a token, whose text begins after `offset` characters.

        `delta` are the members of a chat's answer that it adds to, by default its text.
        """
        text: Any = {"content": item.text} if self.is_chat else item.text
        found = self._chunk(index, text if delta is None else delta, None)
        if item.odds is not None:
            found["choices"][0]["logprobs"] = self.logprobs([item], offset)
        return found

    def end(self, index: int, done: Finished, rest: dict[str, str] | None = None) -> dict[str, Any]:
        """The last event of an answer, with the `rest` of a chat's."""
        delta: Any = (rest or {}) if self.is_chat else ""
        return self._chunk(index, delta, done.reason) | {"timings": timings(done.generation)}

    def totals(self, done: Sequence[Finished]) -> dict[str, Any]:
        """The event of the usage: it has no choices."""
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        found = self._head(kind, []) | {"usage": usage(done, self.n)}
        return found | {"timings": timings(done[-1].generation)}

    def _choice(self, n: int, tokens: list[Token], done: Finished, echo: str) -> dict[str, Any]:
        logprobs = self.logprobs(tokens, len(echo)) if tokens and tokens[0].odds else None
        if self.is_chat:
            whole = {"content": done.text} if self.begun is None else split(done.text, self.begun)
            body: dict[str, Any] = {"message": {"role": "assistant", **whole}}
        else:
            body = {"text": echo + done.text}
        return {"index": n, **body, "logprobs": logprobs, "finish_reason": done.reason}

    def _chunk(self, index: int, delta: Any, reason: str | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        body = {"delta": delta} if self.is_chat else {"text": delta}
        choice = {"index": index, **body, "logprobs": None, "finish_reason": reason}
        return self._head(kind, [choice])

    def _head(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{name}-{self.number}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": _FINGERPRINT,
            "choices": choices,
        }

    def logprobs(self, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        """The log probabilities of tokens whose text begins after `offset` characters."""
        known = [(one, one.odds) for one in tokens if one.odds is not None]
        if self.is_chat:
            return {"content": [self._chat_entry(odds) for _, odds in known], "refusal": None}
        entries = [self._chat_entry(odds) for _, odds in known]
        offsets = []
        for one, _ in known:
            offsets.append(offset)
            offset += len(one.text)
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [
                {top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in entries
            ],
            "text_offset": offsets,
        }

    def _chat_entry(self, odds: Odds) -> dict[str, Any]:
        top = [spelled(token, share, self.vocabulary) for token, share in odds.alternatives]
        return {**spelled(odds.token, odds.probability, self.vocabulary), "top_logprobs": top}


def usage(done: Sequence[Finished], n: int) -> dict[str, Any]:
    """Tokens of the prompts, each counted once for its `n` answers, and of all answers."""
    firsts = [one.generation for one in done[::n]]
    prompt = sum(one.prompt_tokens for one in firsts)
    reused = sum(one.prompt_reused for one in firsts)
    answers = sum(one.generation.tokens for one in done)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answers,
        "total_tokens": prompt + answers,
        "prompt_tokens_details": {"cached_tokens": reused},
    }
