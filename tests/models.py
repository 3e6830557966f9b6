"""Real models for the tests, fetched once and kept under .cache/."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Q4_1 GGUF (98 MB); downloaded on the first call."""
    command = [sys.executable, str(ROOT / "tools" / "fetch_smollm2.py")]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout[:-1])
