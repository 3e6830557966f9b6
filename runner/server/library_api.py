"""Uploaded cards and lorebooks over HTTP: docs/serving-api.md."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from franken_gguf.runner.story.card import MAX_FILE_BYTES

from .bodies import read_body
from .refusals import RequestError
from .served_model import in_thread
from .story_api import stories_of
from .story_view import card_view, lorebook_view


async def list_cards(request: Request) -> Response:
    """GET /api/cards."""
    shelf = stories_of(request).library.cards
    return JSONResponse(
        {"cards": await in_thread(lambda: [card_view(*one) for one in shelf.all()])}
    )


async def add_card(request: Request) -> Response:
    """POST /api/cards."""
    shelf = stories_of(request).library.cards
    content = await read_body(request, MAX_FILE_BYTES)
    number = await in_thread(shelf.add, content, request.query_params.get("file", ""))
    return JSONResponse(card_view(number, await in_thread(shelf.get, number), is_whole=True), 201)


async def show_card(request: Request) -> Response:
    """GET /api/cards/{number}."""
    number = request.path_params["number"]
    card = await in_thread(stories_of(request).library.cards.get, number)
    return JSONResponse(card_view(number, card, is_whole=True))


async def picture(request: Request) -> Response:
    """GET /api/cards/{number}/picture."""
    path = stories_of(request).library.cards.path(request.path_params["number"])
    if path.suffix != ".png":
        raise RequestError("this card has no picture", status=404)
    return FileResponse(path, media_type="image/png", headers={"X-Content-Type-Options": "nosniff"})


async def delete_card(request: Request) -> Response:
    """DELETE /api/cards/{number}."""
    await in_thread(stories_of(request).library.cards.delete, request.path_params["number"])
    return Response(status_code=204)


async def list_lorebooks(request: Request) -> Response:
    """GET /api/lorebooks."""
    shelf = stories_of(request).library.lorebooks
    return JSONResponse(
        {"lorebooks": await in_thread(lambda: [lorebook_view(*one) for one in shelf.all()])}
    )


async def add_lorebook(request: Request) -> Response:
    """POST /api/lorebooks."""
    shelf = stories_of(request).library.lorebooks
    content = await read_body(request, MAX_FILE_BYTES)
    number = await in_thread(shelf.add, content, request.query_params.get("file", ""))
    book = await in_thread(shelf.get, number)
    return JSONResponse(lorebook_view(number, book, is_whole=True), 201)


async def show_lorebook(request: Request) -> Response:
    """GET /api/lorebooks/{number}."""
    number = request.path_params["number"]
    book = await in_thread(stories_of(request).library.lorebooks.get, number)
    return JSONResponse(lorebook_view(number, book, is_whole=True))


async def delete_lorebook(request: Request) -> Response:
    """DELETE /api/lorebooks/{number}."""
    await in_thread(stories_of(request).library.lorebooks.delete, request.path_params["number"])
    return Response(status_code=204)


ROUTES = [
    Route("/api/cards", list_cards, methods=["GET"]),
    Route("/api/cards", add_card, methods=["POST"]),
    Route("/api/cards/{number}", show_card, methods=["GET"]),
    Route("/api/cards/{number}", delete_card, methods=["DELETE"]),
    Route("/api/cards/{number}/picture", picture),
    Route("/api/lorebooks", list_lorebooks, methods=["GET"]),
    Route("/api/lorebooks", add_lorebook, methods=["POST"]),
    Route("/api/lorebooks/{number}", show_lorebook, methods=["GET"]),
    Route("/api/lorebooks/{number}", delete_lorebook, methods=["DELETE"]),
]
