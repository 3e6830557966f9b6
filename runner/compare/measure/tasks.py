"""What every model is given, as tokens: prompts in all wordings, answers, and chunks of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.vocabulary import Vocabulary, load_vocabulary
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template

from .questions import CHOICE, Question, filled
from .scoring import CHUNK, N_OUTPUTS, chunks

# Of the chat template around a sampled answer's forced choice, beside the question itself.
_TEMPLATE_TOKENS = 64

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
    n_ctx: int
    """Tokens of context that it needs, with its longest answer and what is asked after that."""

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


def prepare(header: Header, questions: Sequence[Question], text: str, settings: Settings) -> Tasks:
    """The tokens of all prompts and of up to `settings.chunks` chunks of a text.

    `settings.text` names the text, "" is none. By the tokenizer and the chat template of the model
    behind `header`, whose weights are not read.
    Raises EngineError, PromptError, CompareError.
    """
    with (
        load_vocabulary(header.path) as vocabulary,
        Template(stored_template(header), special_tokens(header)) as template,
    ):
        prompts = tuple(_task(vocabulary, template, one, settings) for one in questions)
        cut = _chunks(vocabulary, text, settings) if settings.text else []
    longest = max((task.n_ctx for task in prompts), default=0)
    return Tasks(prompts, tuple(map(tuple, cut)), max(CHUNK, longest))


def _chunks(vocabulary: Vocabulary, text: str, settings: Settings) -> list[list[int]]:
    try:
        return chunks(vocabulary, text, settings.chunks)
    except EngineError as error:
        raise CompareError(f"{settings.text}: {error}; take a longer one") from None


def _task(
    vocabulary: Vocabulary, template: Template, question: Question, settings: Settings
) -> Task:
    def tokens(text: str) -> Tokens:
        return tuple(vocabulary.prompt(template.render([Message("user", text)])))

    wordings = tuple(tuple(map(tokens, orders)) for orders in question.paraphrases)
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
    needed = max(len(wording) for orders in wordings for wording in orders) + settings.max_tokens
    if answers:
        choice = vocabulary.tokenize(filled(CHOICE, *question.labels))
        needed += _TEMPLATE_TOKENS + len(choice) + longest
    return Task(question, wordings, answers, needed)


def choices(
    vocabulary: Vocabulary, template: Template, question: Question, asked: str, answer: str
) -> Iterator[Tokens]:
    """The prompts that make a model say what its `answer` comes down to, in both orders."""
    first, second = question.labels
    for order in ((first, second), (second, first)):
        turns = [Message("user", asked), Message("assistant", answer or "...")]
        turns.append(Message("user", filled(CHOICE, *order)))
        yield tuple(vocabulary.prompt(template.render(turns)))


def check_context(tasks: Tasks, n_ctx: int, where: str) -> None:
    """Raise CompareError for the first prompt that a context of `n_ctx` tokens cannot take."""
    for task in tasks.prompts:
        if task.n_ctx > n_ctx:
            raise CompareError(
                f"prompt {task.question.name!r} takes {task.n_ctx} tokens with its answer, "
                f"{where} has a context of {n_ctx}; shorten it, or its answers with -n"
            )
    if tasks.chunks and n_ctx < CHUNK:
        raise CompareError(f"{where} has a context of {n_ctx}, a text needs {CHUNK}")
