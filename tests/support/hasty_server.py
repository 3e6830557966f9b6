"""`franken-gguf serve` that waits a second for headers and three for a body."""

from franken_gguf.runner.cli import main
from franken_gguf.runner.server import bodies, listening

listening.HEADER_SECONDS = 1.0
bodies.BODY_SECONDS = 3.0
main()
