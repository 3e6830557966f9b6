"""The prompts of a comparison: built-in ones, and your own in YAML files.

    ask: If you could choose between {first} and {second}, which would you choose?
    paraphrases:            # optional: the same question in other words
      - Which would you rather have, {first} or {second}?
    answers:                # optional: two sets, whose log-odds are the lean
      eternal life: [eternal life, Eternal life]
      a mortal life: [a mortal life, A mortal life]
    measure: variety        # optional, without answers: variety or haiku

{first} and {second} stand for the names of the two sets; a wording with both is asked in both
orders. `variety` measures the words of sampled answers, `haiku` also whether they are 5-7-5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.common.yaml_files import read_yaml

FIRST, SECOND = "{first}", "{second}"
CHOICE = "So which of the two do you choose, {first} or {second}? Answer with one of them."
"""Asked after a sampled answer, so that the model itself says which option it chose."""
_KEYS = ("ask", "paraphrases", "answers", "measure")
_PLACEHOLDER = re.compile(r"\{first\}|\{second\}")
_MAX_BYTES = 1 << 16
_MAX_TEXTS = 64
_MAX_CHARACTERS = 8192
_MAX_NAME = 40


class QuestionError(FrankenError):
    """A prompt or prompt file that cannot be used; the text names the key and the fix."""


@dataclass(frozen=True)
class Question:
    """A prompt in all wordings, and the two sets of answers whose log-odds are measured, if any."""

    name: str
    paraphrases: tuple[tuple[str, ...], ...]
    """Each in all orders of its options, with the placeholders filled in."""
    answers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Two pairs of a set's name and its answers, or none."""
    measure: str = ""
    """LEAN, VARIETY or HAIKU."""

    @property
    def text(self) -> str:
        """The wording that the greedy answer answers."""
        return self.paraphrases[0][0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the two sets of answers, or none."""
        return tuple(label for label, _ in self.answers)


LEAN, VARIETY, HAIKU = "lean", "variety", "haiku"


_BUILT_IN = {
    "eternal-life": {
        "ask": "If you could choose between {first} and {second}, which would you choose?",
        "paraphrases": [
            "Which would you rather have: {first} or {second}?",
            "You are offered {first} or {second}. Which do you take?",
            "Someone must choose between {first} and {second}. What would be your choice?",
            "Is it better to have {first} or {second}?",
            "Imagine that tonight you may pick {first} or {second}. Which one is it?",
            "What would you want for yourself: {first} or {second}?",
            "A stranger at the door can give you {first} or {second}. What do you ask for?",
            "In the end, which is the greater gift: {first} or {second}?",
            "Tell me honestly: {first} or {second}?",
        ],
        "answers": {
            "eternal life": [
                "eternal life",
                "Eternal life",
                "I would choose eternal life",
                "I would take eternal life",
            ],
            "a mortal life that ends": [
                "a mortal life",
                "A mortal life",
                "I would choose a mortal life",
                "I would take a mortal life",
            ],
        },
    },
    "haiku": {"ask": "Write a haiku about the sea in winter.", "measure": HAIKU},
    "story": {
        "ask": "Write the opening of a story about a lighthouse keeper who finds a map.",
        "measure": VARIETY,
    },
    "instruction": {"ask": "Explain in three short steps how to make a cup of tea."},
    "reasoning": {
        "ask": "Anna is taller than Ben, and Ben is taller than Cleo. Who is taller, "
        "{first} or {second}?",
        "paraphrases": [
            "Ben is shorter than Anna and taller than Cleo. Of {first} and {second}, "
            "who is the taller one?",
            "Cleo looks up to Ben, and Ben looks up to Anna, since they are taller. "
            "Is it {first} or {second} who is taller?",
            "Of three friends Cleo is the shortest, and Ben and then Anna are taller. "
            "Which of the two is taller: {first} or {second}?",
            "By height, from the top: Anna, Ben, Cleo. Name the taller of {first} and {second}.",
            "Ben can look over Cleo's head, and Anna over Ben's. "
            "Who is taller: {first} or {second}?",
        ],
        "answers": {
            "Anna": ["Anna", "Anna is taller", "The taller one is Anna"],
            "Cleo": ["Cleo", "Cleo is taller", "The taller one is Cleo"],
        },
    },
}

BUILT_IN = tuple(_BUILT_IN)
"""The names of the built-in prompts."""
QUICK = ("eternal-life", "haiku")
"""Those that are asked unless others are named: on the demo they take minutes, not hours."""


def question(text: str) -> Question:
    """The value of --prompt: the name of a built-in prompt, @FILE, or the text to ask.

    Answers to a text are measured for variety. Raises QuestionError, OSError.
    """
    if text in _BUILT_IN:
        return parse(text, _BUILT_IN[text], f"prompt {text!r}")
    if text.startswith("@"):
        return read_question(Path(text[1:]))
    name = " ".join(text.split())
    name = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."
    return parse(name, {"ask": text}, "--prompt")


def read_question(path: Path) -> Question:
    """The prompt in a YAML file, named after the file. Raises QuestionError, OSError."""
    return parse(path.stem, read_yaml(path, QuestionError, _MAX_BYTES), str(path))


def parse(name: str, document: Any, source: str) -> Question:
    """A prompt from the value of its YAML.

    Raises QuestionError, whose text begins with `source`, the file or option.
    """
    if not isinstance(document, dict):
        raise QuestionError(f"{source}: must hold 'ask: ...' and, optionally, paraphrases, answers")
    for key in document:
        if key not in _KEYS:
            raise QuestionError(f"{source}: unknown key {key!r}; use {', '.join(_KEYS)}")
    wordings = [_text(document.get("ask"), f"{source}: ask")]
    wordings += _texts(document.get("paraphrases", []), f"{source}: paraphrases")
    answers = _answers(document.get("answers"), f"{source}: answers")
    if not answers and source != "--prompt" and any(map(_PLACEHOLDER.search, wordings)):
        raise QuestionError(f"{source}: {FIRST} and {SECOND} stand for answers; add 'answers:'")
    labels = [label for label, _ in answers]
    paraphrases = dict.fromkeys(_orders(wording, labels) for wording in wordings)
    return Question(name, tuple(paraphrases), answers, _measure(document, bool(answers), source))


def _measure(document: dict[str, Any], has_answers: bool, source: str) -> str:
    measures = (LEAN,) if has_answers else (VARIETY, HAIKU)
    measure = document.get("measure", measures[0])
    if measure not in measures:
        raise QuestionError(
            f"{source}: measure must be {VARIETY} or {HAIKU}; leave it out if there are answers"
        )
    return str(measure)


def _orders(wording: str, labels: list[str]) -> tuple[str, ...]:
    """A wording filled in, in both orders of the labels if it names both."""
    if not labels:
        return (wording,)
    orders = (labels, labels[::-1]) if FIRST in wording and SECOND in wording else (labels,)
    return tuple(filled(wording, first, second) for first, second in orders)


def filled(wording: str, first: str, second: str) -> str:
    """`wording` with the names of two answers in place of its placeholders."""
    names = {FIRST: first, SECOND: second}
    # In one pass: a name can itself contain a placeholder.
    return _PLACEHOLDER.sub(lambda match: names[match[0]], wording)


def _answers(value: Any, key: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The two sets, each its name and answers; () for None."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) != 2:
        raise QuestionError(f"{key}: must be two names, each with a list of answers")
    return tuple(
        (_text(label, f"{key}: a name"), _set(texts, f"{key}: {label}"))
        for label, texts in value.items()
    )


def _set(value: Any, key: str) -> tuple[str, ...]:
    texts = _texts(value, key)
    if not texts:
        raise QuestionError(f"{key}: must hold at least one text")
    return tuple(texts)


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or len(value) > _MAX_TEXTS:
        raise QuestionError(f"{key}: must be a list of at most {_MAX_TEXTS} texts")
    return [_text(text, key) for text in value]


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_CHARACTERS:
        raise QuestionError(
            f"{key}: must be a text of 1 to {_MAX_CHARACTERS} characters; "
            "put a number, yes or no in quotes"
        )
    return value.strip()
