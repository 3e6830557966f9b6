"""The logits of a long text, chunk by chunk.

Logits are used up before the next evaluation: at most one chunk of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.vocabulary import Vocabulary
from franken_gguf.runner.planning.memory_use import N_BATCH

CHUNK = N_BATCH
"""Tokens of a chunk, llama-perplexity's default context: one evaluation."""
SCORED = CHUNK // 2 - 1
"""Scored positions of a chunk: those in its second half that a token follows."""
N_OUTPUTS = CHUNK // 2
"""LoadOptions.n_outputs that an engine needs for scoring."""

F32 = NDArray[np.float32]


def chunks(vocabulary: Vocabulary, text: str, most: int) -> list[list[int]]:
    """The first `most` whole chunks of a text, cut as llama-perplexity cuts it.

    If the model uses a BOS token, it replaces the first token of each chunk. Raises EngineError
    for a text shorter than two chunks, llama-perplexity's minimum.
    """
    tokens = vocabulary.prompt(text)
    if len(tokens) < 2 * CHUNK:
        raise EngineError(f"the text has {len(tokens)} tokens, but scoring needs {2 * CHUNK}")
    whole = min(len(tokens) // CHUNK, most)
    cut = [tokens[start * CHUNK : (start + 1) * CHUNK] for start in range(whole)]
    bos = vocabulary.bos
    return cut if bos is None else [[bos, *chunk[1:]] for chunk in cut]


def chunk_logits(engine: Engine, cut: Sequence[Sequence[int]]) -> Iterator[tuple[F32, list[int]]]:
    """For each chunk, the logits at its scored positions and the tokens that follow them.

    (SCORED, vocabulary) and SCORED tokens; the array is llama.cpp's, valid until the next chunk.
    Raises EngineError, KeyboardInterrupt.
    """
    for chunk in cut:
        engine.forget_from(0)
        rows = engine.logits(chunk, CHUNK - N_OUTPUTS)
        yield rows[:SCORED], list(chunk[CHUNK - SCORED :])
