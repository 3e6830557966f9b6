"""Which texts are names of the Hub, and what they name."""

from __future__ import annotations

import pytest

from franken_gguf.quantize.hub.hub_name import HubName, hub_name

COMMIT = "9dcd5f58595ed38ee640069b4e3cf4f0a00852d9"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("mistralai/Mistral-7B-v0.1", HubName("mistralai/Mistral-7B-v0.1")),
        ("org/name@v1.0", HubName("org/name", "v1.0")),
        (f"org/name@{COMMIT}", HubName("org/name", COMMIT)),
        ("org/name@refs/pr/3", HubName("org/name", "refs/pr/3")),
        ("org/name@my/branch", HubName("org/name", "my/branch")),
        ("org/name:Q4_K_M", HubName("org/name", quant="Q4_K_M")),
        ("org/name@v1.0:Q8_0", HubName("org/name", "v1.0", quant="Q8_0")),
        ("hf:org/name:Q8_0", HubName("org/name", quant="Q8_0")),
        ("hf:org/name", HubName("org/name")),
        ("hf://org/name", HubName("org/name")),
        ("hf:/org/name", HubName("org/name")),  # what Path makes of it
        ("hf:org/name@dev/a.gguf", HubName("org/name", "dev", "a.gguf")),
        ("hf:org/name@refs/pr/3/a.gguf", HubName("org/name", "refs/pr/3", "a.gguf")),
        ("hf:org/name/Q4_K_M/a b.gguf", HubName("org/name", "main", "Q4_K_M/a b.gguf")),
        ("hf:org/name.gguf", HubName("org/name.gguf")),
    ],
)
def test_a_name_is_a_repository_a_revision_and_a_file(text: str, name: HubName) -> None:
    assert hub_name(text) == name


@pytest.mark.parametrize("text", ["org/name", "org/name@v1:Q8_0", "hf:org/name@v1/a/b.gguf"])
def test_a_name_is_printed_as_it_is_typed(text: str) -> None:
    assert str(hub_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "./org/name",
        "../name",
        "/org/name",
        "~/name",
        "org/name/",
        "org/name/more",
        "models/tales.gguf",
        "recipes/tales.yml",
        "org/na--me",
        "org/na..me",
        "org/.name",
        "org/name@",
        "org/name:",
        "org/name:.*",
        "hf:org/name:Q8_0/a.gguf",
        "org/name@../../x",
        "org/name@/x",
        "org/name@a//b",
        "org/name+org/adapter",
        "org/n\x1bame",
        "örg/name",
        f"{'o' * 97}/name",
        "hf:org/name/../x.gguf",
        "hf:org/name/a//x.gguf",
        "hf:org/name/c:x.gguf",
        "hf:org/name/a\\x.gguf",
        "hf:org/name/\x1b.gguf",
        "hf:name",
        "",
    ],
)
def test_everything_else_is_a_path(text: str) -> None:
    assert hub_name(text) is None
