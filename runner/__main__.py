"""`python -m franken_gguf.runner`, the same as the command."""

from .cli import main

main()
