"""Answers in stories: what the model's thread does for one, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from franken_gguf.runner.chat.answer import Answer, Piece, Summarized, Text, Truncated, now
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.recorded_answer import recorded
from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.session import Session, Sessions
from franken_gguf.runner.conversation.swipes import with_swipe
from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import Sampling

from .bodies import Fields, wrong
from .refusals import RequestError
from .sampling_fields import banned_of, sampling_of
from .served_model import ServedModel
from .stories import Stories
from .story_view import revision

Event = tuple[str, dict[str, Any]]
_ACTIONS = ("ask", "again", "continue", "speak", "instead")


@dataclass(frozen=True)
class Asked:
    """A request for an answer in a story."""

    action: str
    text: str
    begun: str | None
    speaker: str
    revision: str
    sampling: Sampling
    banned: Banned
    max_tokens: int | None


def asked(fields: Fields, model: ServedModel, defaults: Sampling | None = None) -> Asked:
    """The request in `fields`; `defaults` are by default the model's.

    Raises RequestError, SamplingError, BanError.
    """
    action = fields.text("action", "ask")
    if action not in _ACTIONS:
        wrong("action", ", ".join(_ACTIONS))
    text = fields.text("text")
    if action in ("ask", "instead") and not text.strip():
        wrong("text", "given: what you say")
    defaults = defaults or model.chat.sampling
    sampling = sampling_of(fields.table("sampling"), defaults, model.vocabulary)
    model.engine.check_grammar(sampling)
    limit = fields.whole("max_tokens", -1)
    if limit == 0:
        wrong("max_tokens", "at least 1, or -1 for no limit")
    return Asked(
        action,
        text,
        fields.text("begun") if fields.given("begun") else None,
        fields.text("speaker"),
        fields.text("revision"),
        sampling,
        banned_of(fields, model.chat.banned, "bans"),
        model.limit(limit),
    )


def answer_events(
    model: ServedModel, stories: Stories, sessions: Sessions, name: str, wanted: Asked
) -> Generator[Event, None, None]:
    """The events of an answer, see docs/serving-api.md; the story is saved at the end.

    To be used in the model's thread. Raises FrankenError.
    """
    with stories.opened(name) as session:
        dialogue, answer = started(model, sessions, session, session.read(), wanted, records=True)
        speaker = answer.speaker
        yield "begin", {"index": answer.place, "speaker": speaker}
        try:
            with closing(recorded(dialogue, answer)) as pieces:
                yield from _events(model, answer, pieces)
        finally:
            dialogue.save()
    done = answer.generation
    yield (
        "done",
        {
            "story": stories.view(name),
            "index": answer.place,
            "finish": done.finish,
            "figures": figures(done),
        },
    )


def story_chat(model: ServedModel) -> Chat:
    """A chat of its own with the served model; not to be closed."""
    served = model.chat
    return Chat(
        served.engine,
        served.template,
        served.sampling,
        max_tokens=served.max_tokens,
        summarize=served.summarize,
    )


def figures(done: Generation) -> dict[str, Any]:
    """What an answer took."""
    return {
        "tokens": done.tokens,
        "tokens_per_second": round(done.tokens_per_second, 2),
        "prompt_tokens": done.prompt_tokens,
        "prompt_evaluated": done.prompt_evaluated,
        "prompt_reused": done.prompt_reused,
        "prompt_seconds": round(done.prompt_seconds, 3),
        "rewound": done.rewound,
        "n_ctx": done.n_ctx,
    }


def started(
    model: ServedModel,
    sessions: Sessions,
    session: Session,
    conversation: Conversation,
    wanted: Asked,
    *,
    records: bool = False,
) -> tuple[Dialogue, Answer]:
    """The wanted answer in a story, about to be written. Raises FrankenError."""
    chat = story_chat(model)
    chat.sampling, chat.banned = wanted.sampling, wanted.banned
    chat.max_tokens = wanted.max_tokens
    chat.records = records
    if wanted.revision and wanted.revision != revision(conversation):
        raise RequestError("the story has changed since; load it again", status=409)
    dialogue = Dialogue(chat, model.name, sessions)
    dialogue.switch_to(session, conversation)
    return dialogue, _answer(chat, wanted)


def _answer(chat: Chat, wanted: Asked) -> Answer:
    speaker = wanted.speaker
    if speaker and speaker not in (card.char for card in chat.story.cards):
        wrong("speaker", "one of the story's characters")
    if wanted.begun is not None:
        messages, place = chat.conversation.messages, chat.conversation.last_answer()
        messages[place] = with_swipe(messages[place], wanted.begun, now())
    start: dict[str, Callable[[], Answer]] = {
        "ask": lambda: chat.ask(wanted.text, speaker),
        "instead": lambda: chat.ask_instead(wanted.text, speaker),
        "again": chat.regenerate,
        "continue": chat.resume,
        "speak": lambda: chat.speak(speaker),
    }
    return start[wanted.action]()


def _events(
    model: ServedModel, answer: Answer, pieces: Generator[Piece, None, None]
) -> Iterator[Event]:
    told, routed = 0, 0
    for piece in pieces:
        match piece:
            case Truncated(turns, is_summed_up):
                yield "truncated", {"turns": turns, "is_summed_up": is_summed_up}
            case Summarized(text):
                yield "remembered", {"text": text}
            case Text(text, place):
                done = answer.generation
                for number in range(told, place + 1):
                    shown = text if number == place else ""
                    yield "token", token_view(model, done, number, shown)
                told = place + 1
                yield from _experts(done, routed, min(told, len(done.routes)))
                routed = max(routed, min(told, len(done.routes)))
    done = answer.generation
    yield from _experts(done, routed, min(told, len(done.routes)))


def token_view(model: ServedModel, done: Generation, number: int, text: str) -> dict[str, Any]:
    """A token of an answer that records, with its probability and its alternatives."""
    odds, spelling = done.odds[number], model.vocabulary.spelling
    return {
        "n": number,
        "id": odds.token,
        "text": text,
        "probability": round(odds.probability, 6),
        "alternatives": [
            {
                "id": token,
                "text": spelling(token).decode(errors="replace"),
                "probability": round(share, 6),
            }
            for token, share in odds.alternatives
            if token != odds.token
        ],
    }


def _experts(done: Generation, first: int, end: int) -> Iterator[Event]:
    for number in range(first, end):
        chosen = Counter(experts[0] for experts in done.routes[number].values())
        shares = [[expert, round(n / chosen.total(), 4)] for expert, n in chosen.most_common()]
        yield "experts", {"n": number, "experts": shares}
