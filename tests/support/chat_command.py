"""`franken-gguf chat` with a small model in a process of its own, without a terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.models import smollm2
from support.terminals import COMMAND, PATIENCE

OPTIONS = ("--temp", "0", "-t", "1", "-c", "512", "-sys", "Be brief.")
PARIS = "The capital of France is Paris.\n"
QUESTION = "What is the capital of France?"


def chat(
    *options: str, model: Path | None = None, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "chat", str(model or smollm2()), *OPTIONS, *options],
        input=text,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=3 * PATIENCE,  # it starts and loads a model
        check=False,
    )
