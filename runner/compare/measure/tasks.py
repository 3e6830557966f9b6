"""The tokens that every model gets: prompts in all wordings, answers, and chunks of a text."""

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

# Allowance for the chat template around the question of a forced choice.
_TEMPLATE_TOKENS = 64

Tokens = tuple[int, ...]


class CompareError(FrankenError):
    """A comparison that cannot be made; the text names the file or prompt, and the fix."""


@dataclass(frozen=True)
class Task:
    """One question as tokens."""

    question: Question
    wordings: tuple[tuple[Tokens, ...], ...]
    """Like `Question.paraphrases`, in the chat template."""
    answers: tuple[tuple[Tokens, ...], ...]
    """Like the sets of `Question.answers`."""
    n_ctx: int
    """Context that it needs in tokens, including the answer and the forced choice after it."""

    @property
    def prompt(self) -> Tokens:
        """The wording that the greedy answer answers."""
        return self.wordings[0][0]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Paraphrase and order of each wording."""
        return [(i, j) for i, orders in enumerate(self.wordings) for j in range(len(orders))]


@dataclass(frozen=True)
class Tasks:
    """Everything that each model is given."""

    prompts: tuple[Task, ...]
    chunks: tuple[Tokens, ...]
    n_ctx: int
    """Context that is needed, in tokens."""


def prepare(header: Header, questions: Sequence[Question], text: str, settings: Settings) -> Tasks:
    """The tokens of all prompts, and of up to `settings.chunks` chunks of `text`.

    They come from the tokenizer and chat template of the model of `header`, whose weights are not
    read. The text is scored if `settings.text`, its name, is not "".
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
        raise CompareError(f"{settings.text}: {error}; give a longer text") from None


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
            f"prompt {question.name!r}: an answer has {longest} tokens, but at most {N_OUTPUTS} "
            "can be scored; shorten it"
        )
    needed = max(len(wording) for orders in wordings for wording in orders) + settings.max_tokens
    if answers:
        choice = vocabulary.tokenize(filled(CHOICE, *question.labels))
        needed += _TEMPLATE_TOKENS + len(choice) + longest
    return Task(question, wordings, answers, needed)


def choices(
    vocabulary: Vocabulary, template: Template, question: Question, asked: str, answer: str
) -> Iterator[Tokens]:
    """The prompts that ask a model which option its `answer` chooses, in both orders."""
    first, second = question.labels
    for order in ((first, second), (second, first)):
        turns = [Message("user", asked), Message("assistant", answer or "...")]
        turns.append(Message("user", filled(CHOICE, *order)))
        yield tuple(vocabulary.prompt(template.render(turns)))


def check_context(tasks: Tasks, n_ctx: int, source: str) -> None:
    """Raise CompareError for the first prompt that does not fit into `n_ctx` tokens.

    `source` is the option or file that sets the limit.
    """
    for task in tasks.prompts:
        if task.n_ctx > n_ctx:
            raise CompareError(
                f"prompt {task.question.name!r} needs {task.n_ctx} tokens with its answer, but "
                f"{source} allows {n_ctx}; shorten the prompt, or its answers with -n"
            )
    if tasks.chunks and n_ctx < CHUNK:
        raise CompareError(
            f"scoring a text needs a context of {CHUNK} tokens, but {source} allows {n_ctx}"
        )
