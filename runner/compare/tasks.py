"""What every model is given, as tokens: prompts in all wordings, answers, and chunks of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import Header
from franken_gguf.runner.conversation import Message
from franken_gguf.runner.prompt import Template, special_tokens, stored_template
from franken_gguf.runner.vocabulary import Vocabulary, load_vocabulary

from .document import Settings
from .questions import CHOICE, LEAN, Question, filled
from .scoring import CHUNK, N_OUTPUTS, chunks

# What a sampled answer's forced choice adds to it: the question and the template's own words.
_CHOICE_TOKENS = 128

Tokens = tuple[int, ...]


class CompareError(FrankenError):
    """A comparison that cannot be made; the text names the file or the prompt, and the mend."""


@dataclass(frozen=True)
class Task:
    """One question, ready to be asked."""

    question: Question
    wordings: tuple[tuple[Tokens, ...], ...]
    """As `Question.paraphrases`, in the chat template."""
    answers: tuple[tuple[Tokens, ...], ...]
    """As the sets of `Question.answers`."""

    @property
    def prompt(self) -> Tokens:
        """The wording that is asked for a greedy answer."""
        return self.wordings[0][0]


@dataclass(frozen=True)
class Tasks:
    """All that is asked of each model."""

    prompts: tuple[Task, ...]
    chunks: tuple[Tokens, ...]
    n_ctx: int
    """Tokens of context that are needed."""


def prepare(
    header: Header, questions: Sequence[Question], text: str, chunk_count: int, settings: Settings
) -> Tasks:
    """The tokens of all prompts and of up to `chunk_count` chunks of `text`, "" for none.

    By the tokenizer and the chat template of the model behind `header`, its weights are not read.
    Raises EngineError, PromptError, CompareError.
    """
    with (
        load_vocabulary(header.path) as vocabulary,
        Template(stored_template(header), special_tokens(header)) as template,
    ):
        prompts = tuple(_task(vocabulary, template, one, settings) for one in questions)
        cut = chunks(vocabulary, text, chunk_count) if text else []
    longest = max((_tokens_needed(task, settings) for task in prompts), default=0)
    return Tasks(prompts, tuple(map(tuple, cut)), max(CHUNK, longest))


def _task(
    vocabulary: Vocabulary, template: Template, question: Question, settings: Settings
) -> Task:
    def tokens(text: str) -> Tokens:
        return tuple(vocabulary.prompt(template.render([Message("user", text)])))

    answers = tuple(
        tuple(tuple(vocabulary.tokenize(answer)) for answer in answers)
        for _, answers in question.answers
    )
    longest = max((len(answer) for answers in answers for answer in answers), default=0)
    if longest > N_OUTPUTS:
        raise CompareError(
            f"prompt {question.name!r}: an answer to score is {longest} tokens long, "
            f"{N_OUTPUTS} at most can be; shorten it"
        )
    return Task(question, tuple(tuple(map(tokens, one)) for one in question.paraphrases), answers)


def _tokens_needed(task: Task, settings: Settings) -> int:
    prompt = max(len(wording) for orders in task.wordings for wording in orders)
    choice = _CHOICE_TOKENS if task.answers and settings.samples else 0
    return prompt + settings.max_tokens + choice


def choices(
    vocabulary: Vocabulary, template: Template, question: Question, asked: str, answer: str
) -> Iterator[Tokens]:
    """The prompts that make a model say what its `answer` comes down to, in both orders."""
    first, second = question.labels
    for order in ((first, second), (second, first)):
        turns = [Message("user", asked), Message("assistant", answer or "...")]
        turns.append(Message("user", filled(CHOICE, *order)))
        yield tuple(vocabulary.prompt(template.render(turns)))


def check_context(tasks: Tasks, settings: Settings, n_ctx: int, where: str) -> None:
    """Raise CompareError for the first prompt that a context of `n_ctx` tokens cannot take."""
    for task in tasks.prompts:
        needed = _tokens_needed(task, settings)
        if needed > n_ctx:
            raise CompareError(
                f"prompt {task.question.name!r} takes {needed} tokens with its answer, {where} "
                f"has a context of {n_ctx}; shorten it, or lower -n"
            )


def is_lean(task: Task) -> bool:
    """Whether the odds of two answer sets are measured."""
    return task.question.measure == LEAN
