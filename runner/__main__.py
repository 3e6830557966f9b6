"""`python -m franken_gguf.runner`, the same as the command."""

from franken_gguf.runner.cli.supervisor import main

main()
