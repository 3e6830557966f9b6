"""The page's start: `PYTHONPATH=tests python benchmarks/page_start.py [--model FILE]`.

Chromium with an empty cache opens a story whose last message has no answer yet, and the answer's
first token is timed from the start of the navigation, then the same answer from the API alone, in
turn. The difference is what the page costs. Then the same with a phone's network: 20 ms there and
back, 2 MB/s. Prints medians, what was transferred, and the page's size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from support.desk import chromium
from support.models import ROOT, smollm2
from support.servers import Server, serving

ROUNDS = 7
QUESTION = "Who keeps the light when the fog comes in?"
FIELDS = {"sampling": {"temperature": 0}, "max_tokens": 16}
PHONE = {
    "offline": False,
    "latency": 20,  # ms
    "downloadThroughput": 2_000_000,  # bytes/s
    "uploadThroughput": 1_000_000,
}
WATCH = """
localStorage.setItem("franken-gguf sampling", '{"temperature": 0}');
localStorage.setItem("franken-gguf maxTokens", "16");
const times = {};
const look = () => {
  const buttons = [...document.querySelectorAll("button")];
  const button = buttons.find((one) => one.textContent.trim() === "Answer");
  if (button && !times.ready) {
    times.ready = performance.now();
    button.click();
  }
  const text = document.querySelector("article.assistant .text")?.textContent;
  if (times.ready && !times.first && text) {
    times.first = performance.now();
    document.documentElement.dataset.times = JSON.stringify(times);
  }
};
const all = { childList: true, subtree: true, characterData: true };
new MutationObserver(look).observe(document, all);
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    flags = ["-t", str(options.threads)]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), *flags, model=options.model or smollm2()) as server,
        chromium() as browser,
    ):
        from_api(server, "warm")
        for name, network in (("this machine", None), ("a phone's network", PHONE)):
            rounds = [
                (from_page(browser, server, network), from_api(server)) for _ in range(ROUNDS)
            ]
            show(name, [page for page, _ in rounds], [api for _, api in rounds])
    print(f"all of the page, gzipped: {gzipped() / 1e3:.1f} kB")


def story(server: Server) -> str:
    """The name of a new story whose question has no answer yet."""
    name: str = server.post("/api/stories", name=f"Story {time.monotonic_ns()}")["name"]
    path = f"/api/stories/{name.replace(' ', '%20')}"
    server.post(f"{path}/messages", role="user", text=QUESTION)
    return path


def from_api(server: Server, _: str = "") -> float:
    """Milliseconds from the request to the first token."""
    path = story(server)
    started = time.perf_counter()
    with server.response("POST", f"{path}/answer", {"action": "speak", **FIELDS}) as response:
        while not response.readline().startswith(b"event: token"):
            pass
        first = time.perf_counter() - started
        response.read()
    return 1e3 * first


def from_page(browser: Browser, server: Server, network: dict[str, Any] | None) -> dict[str, float]:
    """Milliseconds from the navigation until the page can be used, and until the first token."""
    path = story(server).removeprefix("/api/stories")
    context = browser.new_context(viewport={"width": 1400, "height": 800})
    page = context.new_page()
    page.add_init_script(WATCH)
    session = context.new_cdp_session(page)
    received: list[float] = []
    session.on("Network.loadingFinished", lambda one: received.append(one["encodedDataLength"]))
    session.send("Network.enable")
    if network:
        session.send("Network.emulateNetworkConditions", network)
    page.goto(f"http://127.0.0.1:{server.port}/#{path}", wait_until="commit")
    found = page.locator("html[data-times]")
    found.wait_for()
    times: dict[str, float] = json.loads(found.get_attribute("data-times") or "")
    context.close()
    return {**times, "requests": len(received), "kB": sum(received) / 1e3}


def show(name: str, pages: list[dict[str, float]], apis: list[float]) -> None:
    """A line of medians."""
    ready, first, requests, size = (
        statistics.median(one[key] for one in pages) for key in ("ready", "first", "requests", "kB")
    )
    api = statistics.median(apis)
    print(
        f"{name}: usable after {ready:.0f} ms, first token after {first:.0f} ms; the API alone "
        f"{api:.0f} ms; the page costs {first - api:.0f} ms "
        f"({requests:.0f} requests, {size:.0f} kB)"
    )


def gzipped() -> int:
    """Bytes of all the page's files, each compressed."""
    files = (path for path in (ROOT / "runner/server/page").rglob("*") if path.is_file())
    return sum(len(gzip.compress(path.read_bytes())) for path in files)


if __name__ == "__main__":
    main()
