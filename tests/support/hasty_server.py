"""`franken-gguf serve` that waits for the headers of a request for one second only."""

from franken_gguf.runner.cli import main
from franken_gguf.runner.server import listening

listening.HEADER_SECONDS = 1.0
main()
