"""One run of `franken-gguf serve`, from the socket to the last answer."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import closing

from franken_gguf.runner.cli.options.chat_arguments import ServeArguments
from franken_gguf.runner.server.app import serve_app
from franken_gguf.runner.server.guard import Access, is_loopback
from franken_gguf.runner.server.listening import listen, run_server
from franken_gguf.runner.terminal.standard_input import clean
from franken_gguf.runner.ui.chat_screen import Screen

from .load_chat import load_chat, machine_for


def run(arguments: ServeArguments, screen: Screen) -> None:
    """Serve until a signal ends it. Raises FrankenError, KeyboardInterrupt."""
    # Before the model is loaded: a port in use is reported at once.
    with closing(listen(arguments.host, arguments.port)) as listener:
        key = _key(arguments, screen)
        machine = machine_for(arguments, screen)
        chat = load_chat(arguments, machine, screen, threading.Event())
        chat.conversation.system = arguments.system
        app = serve_app(
            chat,
            name=arguments.alias,
            access=Access(key, arguments.allowed_hosts, arguments.origins),
            cache_ram=arguments.cache_ram,
            cache_disk=arguments.cache_disk,
        )
        stories = app.state.stories
        stories.first_cards = arguments.story.characters
        stories.first_lorebooks = arguments.story.lorebooks
        stories.first_user = clean(arguments.story.user)
        screen.notice(f"{app.state.model.name}, context {chat.engine.n_ctx}")
        screen.notice(f"listening at {_address(arguments, listener)}; Ctrl-C ends the server")
        run_server(app, app.state.model, listener, arguments.tls)


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
