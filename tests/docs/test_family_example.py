"""CONTRIBUTING shows a whole family: the file as it is."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_family_that_contributing_shows_is_the_file_itself() -> None:
    file = ROOT / "quantize" / "checkpoint" / "families" / "qwen3.py"
    shown = [f"    +{line}" for line in file.read_text(encoding="utf-8").splitlines()]
    assert "\n".join(shown) in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
