"""`python -m franken_gguf.runner`, the same as the command."""

from .supervisor import main

main()
