"""Scoring given tokens: log-probabilities of answers, and logits of a long text in chunks.

Logits are used up before the next evaluation: at most one chunk of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.compare.results.metrics import log_softmax
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


def answer_log_probs(
    engine: Engine, prompt: Sequence[int], answers: Sequence[Sequence[int]], *, batch: int = N_BATCH
) -> list[F32]:
    """For each answer, an array with the log-probability of each of its tokens after `prompt`.

    The part of the prompt that is not in the context is evaluated once, in batches of up to `batch`
    tokens. Raises EngineError if prompt and answer do not fit into the context or one of them is
    empty; KeyboardInterrupt.
    """
    longest = max(map(len, answers))
    if not prompt or not min(map(len, answers)):
        raise EngineError("nothing to score: the prompt or an answer is empty")
    if len(prompt) + longest > engine.n_ctx or longest > N_OUTPUTS:
        raise EngineError(
            f"prompt and answer need {len(prompt) + longest} tokens, but the context has "
            f"{engine.n_ctx} and an answer at most {N_OUTPUTS}; shorten them or give a larger -c"
        )
    row = _last_logits(engine, prompt, batch)
    first = log_softmax(row)[0]
    found = []
    for answer in answers:
        scores = [first[list(answer[:1])]]
        if len(answer) > 1:
            rows = log_softmax(engine.logits(answer[:-1]))
            scores.append(rows[np.arange(len(rows)), list(answer[1:])])
            engine.forget_from(len(prompt))
        found.append(np.concatenate(scores))
        if len(engine.evaluated) != len(prompt):  # a recurrent model cannot forget tokens
            engine.evaluate(prompt)
    return found


def _last_logits(engine: Engine, prompt: Sequence[int], batch: int) -> F32:
    known = zip(engine.evaluated, prompt[:-1], strict=False)
    engine.forget_from(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], known)))
    for start in range(len(engine.evaluated), len(prompt), batch):
        part = prompt[start : start + batch]
        row = engine.logits(part, len(part) - 1)
    return row


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
