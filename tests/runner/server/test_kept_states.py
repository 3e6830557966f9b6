"""Kept contexts: going back to a story, or restarting the server, evaluates only what is new."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from support.servers import Server, serving

STORIES = [
    f"Story number {n}. " + f"The {kind} walked to the harbour and looked at the sea. " * 12
    for n, kind in enumerate(("fox", "owl", "cat", "dog"))
]


def timings(server: Server, prompt: str, n_predict: int = 4) -> dict[str, Any]:
    done = server.post("/completion", prompt=prompt, temperature=0, n_predict=n_predict)
    found: dict[str, Any] = done["timings"] | {"text": done["content"]}
    return found


def folder_of(data: Path) -> Path:
    """The folder of kept contexts."""
    return data / "cache/franken-gguf/contexts"


def kept(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/slots")[0]["kept"]
    return found


def tokens(server: Server, text: str) -> list[int]:
    found: list[int] = server.post("/tokenize", content=text)["tokens"]
    return found


def told(server: Server, prompt: list[int]) -> dict[str, Any]:
    """A short answer to a prompt."""
    fields = {"temperature": 0, "ignore_eos": True, "n_predict": 3, "return_tokens": True}
    found: dict[str, Any] = server.post("/completion", prompt=prompt, **fields)
    return found


def continue_all(server: Server, stories: list[list[int]], more: str) -> None:
    """Continue each story with `more`; of what it was, only the last token is evaluated."""
    new = tokens(server, more)
    for place, story in enumerate(stories):
        prompt = [*story, *new]
        done = told(server, prompt)
        assert done["timings"]["prompt_n"] == 1 + len(new)
        assert done["timings"]["cache_n"] == len(story) - 1
        stories[place] = [*prompt, *done["tokens"]]


def test_ten_stories_taken_up_in_turn_evaluate_their_new_tokens_alone_after_a_restart_too(
    tmp_path: Path, tiny: Path
) -> None:
    with serving(tmp_path, model=tiny) as server:
        stories = [tokens(server, f"{n}. " + "The fox looked at the sea. " * 12) for n in range(10)]
        for place, story in enumerate(stories):
            done = told(server, story)
            assert done["timings"]["prompt_n"] > 64
            stories[place] = [*story, *done["tokens"]]
        continue_all(server, stories, " Then it rained.")
        title = [{"role": "user", "content": "A title?"}]
        server.post("/v1/chat/completions", messages=title, max_tokens=4)
        continue_all(server, stories, " In the morning")
        assert len(kept(server)) == len(stories) - 1
        assert all(one["in"] == ["memory"] for one in kept(server))
        assert server.end() == 143
    assert len(list(folder_of(tmp_path).glob("*.kv"))) == len(stories)
    with serving(tmp_path, model=tiny) as server:
        assert {tuple(one["in"]) for one in kept(server)} == {("disk",)}
        continue_all(server, stories, " At noon")
        continue_all(server, stories, " At night")


def test_an_answer_written_anew_does_not_keep_the_whole_context_for_the_former_one(
    tmp_path: Path, tiny: Path
) -> None:
    with serving(tmp_path, model=tiny) as server:
        for seed in (1, 2):
            server.post("/completion", prompt=STORIES[0], seed=seed, n_predict=80, ignore_eos=True)
        assert kept(server) == []
        again = server.post("/completion", prompt=STORIES[0], n_predict=1)
        assert again["timings"]["prompt_n"] == 1


def memory(server: Server) -> int:
    """Bytes of the contexts that are kept in memory."""
    return sum(one["n_bytes"] for one in kept(server) if "memory" in one["in"])


def test_memory_and_disk_are_bounded_and_the_oldest_go(tmp_path: Path, tiny: Path) -> None:
    # A story takes 0.4 MiB.
    limits = ("--cache-ram", "0.5MiB", "--cache-disk", "0.8MiB")
    with serving(tmp_path, *limits, model=tiny) as server:
        for story in STORIES:
            timings(server, story)
        timings(server, "An end.")
        while memory(server) > 1 << 19:  # what leaves is being written
            time.sleep(0.01)
        assert memory(server) > 0
        assert any(one["in"] == ["disk"] for one in kept(server))
        files = list(folder_of(tmp_path).glob("*.kv"))
        assert 0 < sum(path.stat().st_size for path in files) <= 0.8 * (1 << 20)
        assert timings(server, STORIES[-1])["prompt_n"] == 1
        assert timings(server, STORIES[0])["prompt_n"] > 100


def test_a_kept_context_that_was_changed_on_disk_is_not_used(tmp_path: Path, tiny: Path) -> None:
    with serving(tmp_path, "--cache-ram", "0", model=tiny) as server:
        before = timings(server, STORIES[0])
        timings(server, STORIES[1])
        while [one["in"] for one in kept(server)] != [["disk"]]:
            time.sleep(0.01)
        (path,) = folder_of(tmp_path).glob("*.kv")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        again = timings(server, STORIES[0])
        assert again["prompt_n"] > 100
        assert again["text"] == before["text"]


def test_no_context_is_kept_where_none_is_wanted(tmp_path: Path, tiny: Path) -> None:
    with serving(tmp_path, "--cache-ram", "0", "--cache-disk", "0", model=tiny) as server:
        for story in STORIES[:2]:
            timings(server, story)
        assert kept(server) == []
