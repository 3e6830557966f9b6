"""One model fetched from the Hugging Face Hub, with what is shown of that."""

from __future__ import annotations

from rich.console import Console

from franken_gguf.quantize.common.errors import HubError
from franken_gguf.quantize.hub.hub_cache import find_cached
from franken_gguf.quantize.hub.hub_name import HubName
from franken_gguf.runner.download.fetch_files import fetch_files, missing
from franken_gguf.runner.download.repository import look_up
from franken_gguf.runner.download.wanted_files import wanted_files
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.hub_screen import announce, fetching


def fetch(name: HubName, *, gguf: bool) -> None:
    """Fetch what is missing of a model; without the Hub, what is in the cache will do."""
    notices = Console(stderr=True, highlight=False)
    try:
        repository = look_up(name)
    except HubError as error:
        if find_cached(name, gguf=gguf) is None:
            raise
        say(notices, f"{error}; using what is in the cache")
        return
    files = wanted_files(repository, gguf=gguf)
    if absent := missing(repository, files):
        announce(notices, repository, absent)
    try:
        with fetching(notices, absent) as report:
            fetch_files(repository, files, report)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("Interrupted; run the same command to resume.",)
        raise
