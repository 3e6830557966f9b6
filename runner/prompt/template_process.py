"""A child process that renders one chat template: a file's code, kept away from model and user.

Jinja's sandbox bounds what a template can reach, not what it can use: `{% set x = x ~ x %}` in a
loop takes every byte of memory, nested loops take for ever. Here both end with this process.
The parent writes JSON lines and reads one line for each: first the template, then conversations.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 1 << 24
MAX_MEMORY = 1 << 30  # address space, bytes; Python with jinja2 takes about an eighth of it
MAX_SECONDS = 60  # only for a child whose parent has died: a living parent kills it long before


class _Generation(Extension):
    """`{% generation %}` marks what to train on; in a chat its body is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares the attribute so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for: the environment of transformers' apply_chat_template."""
    result = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    result.filters["tojson"] = _tojson
    result.globals["raise_exception"] = _raise_exception
    result.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return result


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # jinja2's own filter escapes <, > and & for HTML, which no model was trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _join(pieces: Iterator[str]) -> str:
    taken, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise TemplateError(f"its output is longer than {MAX_CHARACTERS} characters")
        taken.append(piece)
    return "".join(taken)


def _limit() -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main() -> None:
    """Answer every line on standard input with {"text": ...} or {"error": ...}, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit()
    template = None
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(MAX_SECONDS)
        try:
            request = json.loads(line)
            if template is None:
                template = environment().from_string(request["template"])
                reply = {"text": ""}
            else:
                reply = {"text": _join(template.generate(request))}
        except MemoryError:
            reply = {"error": f"it needs more than {MAX_MEMORY >> 20} MiB of memory"}
        except RecursionError:
            reply = {"error": "it is nested too deeply"}
        except Exception as error:
            # The template is untrusted code: whatever it raises is its failure, not ours.
            reply = {"error": f"{error}" or type(error).__name__}
        print(json.dumps(reply), flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(0)  # this process is idle most of the time


if __name__ == "__main__":
    main()
