"""The command line: every verb's words, and nothing else."""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """Merged mixture-of-experts checkpoints to GGUF, and a chat to run them."""
