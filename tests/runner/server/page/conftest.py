"""One server and one browser for all tests of the page that run in the same process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.models import other_smollm2, smollm2
from support.servers import Server, serving

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: pip install playwright"
)

from playwright.sync_api import Browser  # noqa: E402 - now that it is known to be there

from support.desk import Desk, chromium, desk  # noqa: E402 - imports it too


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    second = ("--compare-with", str(other_smollm2()))
    with serving(tmp_path_factory.mktemp("desk"), *second, model=smollm2()) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Desk]:
    with desk(browser, server) as found:
        yield found
