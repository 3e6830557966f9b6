"""A conversation as one self-contained web page: no scripts, nothing fetched, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_PAGE = """\
<!doctype html>
<html lang="">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --user: #0b57d0; --other: #7d5700; }}
@media (prefers-color-scheme: dark) {{ :root {{ --user: #a8c7fa; --other: #f0bf6a; }} }}
body {{ max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 1.1rem/1.6 Georgia, serif; }}
h2 {{ margin: 0; font: bold .85rem/1.6 system-ui, sans-serif; color: var(--other); }}
.user h2 {{ color: var(--user); }}
p {{ margin: 0 0 1.5rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{messages}</body>
</html>
"""
_MESSAGE = '<article class="{kind}"><h2>{name}</h2><p dir="auto">{text}</p></article>\n'


def page(title: str, messages: Iterable[tuple[str, str, bool]]) -> str:
    """The page for `messages`: name, text, whether it is the user's.

    Everything is shown as plain text, tags included. Only *...* and **...** within a line become
    emphasis.
    """
    articles = (
        _MESSAGE.format(
            kind="user" if is_user else "other", name=escape(name), text=_emphasized(text.strip())
        )
        for name, text, is_user in messages
    )
    return _PAGE.format(title=escape(title), messages="".join(articles))


def _emphasized(text: str) -> str:
    text = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"\*([^*\n]+)\*", r"<em>\1</em>", text)
