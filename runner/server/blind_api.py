"""Blind comparison over HTTP: a turn answered by two models, the choice, the result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from franken_gguf.quantize.common.errors import FrankenError

from .answering import client_of
from .blind_rounds import BlindRounds, Written, preference_view, written
from .bodies import read_fields
from .event_stream import EventStream, cancel, data, items
from .model_thread import Ticket
from .refusals import RequestError, as_request_error, llama_form
from .served_model import in_thread
from .stories import Stories
from .story_answers import Asked


async def ask_both(request: Request) -> Response:
    """POST /api/stories/{name}/round: a stream of events."""
    rounds, stories, name = _rounds(request), _stories(request), request.path_params["name"]
    both = await in_thread(rounds.asked, await read_fields(request))
    await in_thread(stories.read, name)
    tickets = list[Ticket[Written]]()
    try:
        for model, wanted in zip(rounds.models, both, strict=True):
            work = partial(written, model, stories, name, wanted)
            tickets.append(model.thread.submit(work, client_of(request)))
    except RequestError:
        cancel(tickets)
        raise
    found = EventStream(tickets, _events(rounds, name, both[0], tickets))
    request.app.state.story_streams[name] = found
    return found


async def show_round(request: Request) -> Response:
    """GET /api/stories/{name}/round."""
    found = _rounds(request).open_round(request.path_params["name"])
    return JSONResponse({"round": found and found.view()})


async def choose(request: Request) -> Response:
    """POST /api/stories/{name}/round/choice."""
    rounds, stories, name = _rounds(request), _stories(request), request.path_params["name"]
    await in_thread(rounds.choose, stories, name, await read_fields(request))
    story = await in_thread(stories.view, name)
    return JSONResponse({"story": story, "choices": (await in_thread(rounds.result)).choices})


async def discard(request: Request) -> Response:
    """DELETE /api/stories/{name}/round."""
    _rounds(request).discard(request.path_params["name"])
    return Response(status_code=204)


async def result(request: Request) -> Response:
    """GET /api/preference."""
    return JSONResponse(preference_view(await in_thread(_rounds(request).result)))


async def _events(
    rounds: BlindRounds, name: str, wanted: Asked, tickets: list[Ticket[Written]]
) -> AsyncIterator[str]:
    """Both answers at once, when both are complete: their pace would tell the models apart."""
    found = list[Written]()
    try:
        for ticket in tickets:
            async for item in items(ticket):
                if isinstance(item, Written):
                    found.append(item)
                elif ticket is tickets[0]:
                    yield data({"position": ticket.position()}, "queue")
                else:
                    yield ": still writing\n\n"
        if len(found) == len(tickets):
            yield data(rounds.begin(name, found, wanted).view(), "round")
    except FrankenError as error:
        yield data(llama_form(as_request_error(error)), "error")


def _stories(request: Request) -> Stories:
    found: Stories = request.app.state.stories
    return found


def _rounds(request: Request) -> BlindRounds:
    found: BlindRounds | None = request.app.state.rounds
    if found is None:
        raise RequestError("this server has one model; --compare-with adds another", status=404)
    return found


_ROUND = "/api/stories/{name}/round"
ROUTES = [
    Route(_ROUND, ask_both, methods=["POST"]),
    Route(_ROUND, show_round, methods=["GET"]),
    Route(_ROUND, discard, methods=["DELETE"]),
    Route(_ROUND + "/choice", choose, methods=["POST"]),
    Route("/api/preference", result),
]
