"""Kept contexts: going back to a story, or restarting the server, evaluates only what is new."""

from __future__ import annotations

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


def kept(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/slots")[0]["kept"]
    return found


def test_several_stories_taken_up_in_turn_evaluate_only_their_new_tokens(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        told = {story: timings(server, story) for story in STORIES}
        assert all(one["prompt_n"] > 100 for one in told.values())
        title = [{"role": "user", "content": "A title?"}]
        server.post("/v1/chat/completions", messages=title, max_tokens=4)
        for story, before in told.items():
            text = story + before["text"] + " Then it rained."
            after = timings(server, text)
            assert after["prompt_n"] <= 8
            assert after["cache_n"] >= before["prompt_n"]
            assert after["text"] == timings(server, text)["text"]
        assert len(kept(server)) == len(STORIES) - 1
        assert all(one["in"] == ["memory"] for one in kept(server))
        last = {story: timings(server, story) for story in STORIES}
        assert server.end() == 143
    assert len(list((tmp_path / "cache/franken-gguf/contexts").glob("*.kv"))) == len(STORIES)
    with serving(tmp_path) as server:
        assert {tuple(one["in"]) for one in kept(server)} == {("disk",)}
        for story in STORIES:
            again = timings(server, story)
            assert again["prompt_n"] == 1
            assert again["text"] == last[story]["text"]


def test_memory_and_disk_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    with serving(tmp_path, "--cache-ram", "4MiB", "--cache-disk", "8MiB") as server:
        for story in STORIES:
            timings(server, story)
        size = {tuple(one["in"]): one["n_bytes"] for one in kept(server)}
        assert set(size) == {("memory",), ("disk",)}
        timings(server, "An end.")
        sizes = [(one["in"], one["n_bytes"]) for one in kept(server)]
        assert sum(nbytes for where, nbytes in sizes if "memory" in where) <= 4 << 20
        files = list((tmp_path / "cache/franken-gguf/contexts").glob("*.kv"))
        assert 0 < sum(path.stat().st_size for path in files) <= 8 << 20
        assert timings(server, STORIES[-1])["prompt_n"] == 1
        assert timings(server, STORIES[0])["prompt_n"] > 100


def test_a_kept_context_that_was_changed_on_disk_is_not_used(tmp_path: Path) -> None:
    with serving(tmp_path, "--cache-ram", "0") as server:
        before = timings(server, STORIES[0])
        timings(server, STORIES[1])
        (path,) = (tmp_path / "cache/franken-gguf/contexts").glob("*.kv")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        again = timings(server, STORIES[0])
        assert again["prompt_n"] > 100
        assert again["text"] == before["text"]


def test_no_context_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    with serving(tmp_path, "--cache-ram", "0", "--cache-disk", "0") as server:
        for story in STORIES[:2]:
            timings(server, story)
        assert kept(server) == []
