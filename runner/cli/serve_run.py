"""One run of `franken-gguf serve`, from the socket to the last answer."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import closing
from dataclasses import replace

from franken_gguf.quantize.gguf_file.split_files import joined
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.cli.options.chat_arguments import ServeArguments
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.two_models import side_by_side
from franken_gguf.runner.server.app import serve_app
from franken_gguf.runner.server.blind_rounds import identities
from franken_gguf.runner.server.guard import Access, is_loopback
from franken_gguf.runner.server.listening import listen, run_server
from franken_gguf.runner.story.persona import persona_path, read_persona
from franken_gguf.runner.terminal.standard_input import clean
from franken_gguf.runner.ui.chat_screen import Screen

from .load_chat import load_chat, machine_for


def run(arguments: ServeArguments, screen: Screen) -> None:
    """Serve until a signal ends it. Raises FrankenError, KeyboardInterrupt."""
    persona = persona_path(arguments.story.persona) if arguments.story.persona else None
    if persona:
        read_persona(persona)
    # Before the model is loaded: a port in use is reported at once.
    with closing(listen(arguments.host, arguments.port)) as listener:
        key = _key(arguments, screen)
        first, second = _load(arguments, screen)
        first.conversation.system = arguments.system
        app = serve_app(
            first,
            second,
            name=arguments.alias,
            access=Access(key, arguments.allowed_hosts, arguments.origins),
            cache_ram=arguments.cache_ram,
            cache_disk=arguments.cache_disk,
        )
        stories = app.state.stories
        stories.first_cards = arguments.story.characters
        stories.first_lorebooks = arguments.story.lorebooks
        stories.first_user = clean(arguments.story.user)
        stories.first_persona = persona
        screen.notice(f"{app.state.model.name}, context {first.engine.n_ctx}")
        if second:
            name = second.engine.header.path.name
            votes = app.state.rounds.path
            screen.notice(f"{name} for blind comparisons; choices are kept in {votes}")
        screen.notice(f"listening at {_address(arguments, listener)}; Ctrl-C ends the server")
        run_server(app, app.state.model, listener, arguments.tls)


def _load(arguments: ServeArguments, screen: Screen) -> tuple[Chat, Chat | None]:
    """The model and the one to compare it with, placed beside each other. Raises FrankenError."""
    stop, machine, second = threading.Event(), machine_for(arguments, screen), arguments.second
    if second is None:
        return load_chat(arguments, machine, screen, stop), None
    headers = [arguments.header, second]
    identities(headers)
    one, other = (model_shape(joined(header)) for header in headers)
    placement, rest = side_by_side(one, other, machine, arguments.placement)
    if placement != arguments.placement:
        context = f"{placement.n_ctx} tokens in {placement.type_k}/{placement.type_v}"
        screen.notice(f"a context of {context} for each, so that both models fit")
    arguments = replace(arguments, placement=placement)
    first = load_chat(arguments, machine, screen, stop)
    try:
        arguments = replace(arguments, header=second, experts=False)
        return first, load_chat(arguments, rest, screen, stop)
    except BaseException:
        first.close()
        raise


def _key(arguments: ServeArguments, screen: Screen) -> str:
    """The key that was given; a new one if other machines can reach the server."""
    if arguments.key or is_loopback(arguments.host):
        return arguments.key
    key = secrets.token_urlsafe(24)
    screen.notice(f"other machines can reach this server; its key for this run is {key}")
    if not arguments.tls:
        screen.notice(
            "without --ssl-cert-file and --ssl-key-file, the network can read stories and the key"
        )
    return key


def _address(arguments: ServeArguments, listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    host = f"[{host}]" if ":" in host else host
    return f"http{'s' if arguments.tls else ''}://{host}:{port}"
