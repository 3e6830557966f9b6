"""What models are asked when they are compared: built-in prompts, and a YAML file for your own.

    ask: If you could choose between {first} and {second}, which would you choose?
    paraphrases:            # optional: the same question in other words
      - Which would you rather have, {first} or {second}?
    answers:                # optional: two sets, whose odds are the lean
      eternal life: [eternal life, Eternal life]
      a mortal life: [a mortal life, A mortal life]
    measure: variety        # optional, without answers: what sampled answers are measured for

{first} and {second} stand for the names of the two sets; where a wording has both, it is asked in
both orders. `measure` is variety (of words) or haiku (5-7-5, too).
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
"""Asked after a sampled answer: the model itself says what its answer comes down to."""
_KEYS = ("ask", "paraphrases", "answers", "measure")
_PLACEHOLDER = re.compile(r"\{first\}|\{second\}")
_MAX_BYTES = 1 << 16
_MAX_TEXTS = 64
_MAX_CHARACTERS = 8192
_MAX_NAME = 40


class QuestionError(FrankenError):
    """A prompt or its file that cannot be used; the text names the line and the mend."""


@dataclass(frozen=True)
class Question:
    """A prompt in all its wordings, and the two sets of answers whose odds are measured, if any."""

    name: str
    paraphrases: tuple[tuple[str, ...], ...]
    """Each in both orders of its options, where it has any; placeholders filled in."""
    answers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Two pairs of a set's name and its answers, or none."""
    measure: str = ""
    """What sampled answers are measured for: one of `MEASURES`."""

    @property
    def text(self) -> str:
        """The wording that is asked for a greedy answer."""
        return self.paraphrases[0][0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the two sets of answers, or none."""
        return tuple(label for label, _ in self.answers)


LEAN, VARIETY, HAIKU = MEASURES = ("lean", "variety", "haiku")


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


def question(text: str) -> Question:
    """What --prompt means: the name of a built-in prompt, @FILE, or the words to ask.

    Words are measured for their answers' variety.

    Raises QuestionError, OSError.
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


def parse(name: str, document: Any, where: str) -> Question:
    """A prompt from what its YAML holds. Raises QuestionError whose text begins with `where`."""
    if not isinstance(document, dict):
        raise QuestionError(f"{where}: write 'ask: ...' and, if you like, paraphrases and answers")
    for key in document:
        if key not in _KEYS:
            raise QuestionError(f"{where}: unknown key {key!r}; there are {', '.join(_KEYS)}")
    asked = [_text(document.get("ask"), f"{where}: ask")]
    asked += _texts(document.get("paraphrases", []), f"{where}: paraphrases")
    answers = _answers(document.get("answers"), where)
    if not answers and any(FIRST in one or SECOND in one for one in asked) and where != "--prompt":
        raise QuestionError(f"{where}: {FIRST} and {SECOND} name answers, and there are none")
    measure = document.get("measure", LEAN if answers else VARIETY)
    if measure not in ((LEAN,) if answers else (VARIETY, HAIKU)):
        raise QuestionError(
            f"{where}: measure is {VARIETY} or {HAIKU}, or left away where there are answers"
        )
    labels = [label for label, _ in answers]
    paraphrases = dict.fromkeys(_orders(one, labels) for one in asked)
    return Question(name, tuple(paraphrases), answers, measure)


def _orders(wording: str, labels: list[str]) -> tuple[str, ...]:
    if not labels:
        return (wording,)
    orders = (labels, labels[::-1]) if FIRST in wording and SECOND in wording else (labels,)
    return tuple(filled(wording, first, second) for first, second in orders)


def filled(wording: str, first: str, second: str) -> str:
    """`wording` with the names of two answers in place of its placeholders."""
    return _filled(wording, {FIRST: first, SECOND: second})


def _filled(wording: str, names: dict[str, str]) -> str:
    # At once: a name may itself hold a placeholder.
    return _PLACEHOLDER.sub(lambda found: names[found[0]], wording)


def _answers(value: Any, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if value is None:
        return ()
    where = f"{where}: answers"
    if not isinstance(value, dict) or len(value) != 2:
        raise QuestionError(f"{where}: must be two names, each with a list of answers")
    return tuple(
        (_text(label, f"{where}: a name"), tuple(_some(texts, f"{where}: {label}")))
        for label, texts in value.items()
    )


def _some(value: Any, where: str) -> list[str]:
    texts = _texts(value, where)
    if not texts:
        raise QuestionError(f"{where}: must hold at least one text")
    return texts


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or len(value) > _MAX_TEXTS:
        raise QuestionError(f"{where}: must be a list of at most {_MAX_TEXTS} texts")
    return [_text(one, where) for one in value]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_CHARACTERS:
        raise QuestionError(
            f"{where}: must be a text of 1 to {_MAX_CHARACTERS} characters; "
            "put it in quotes where YAML reads a number or yes and no"
        )
    return value.strip()
