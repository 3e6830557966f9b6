"""Several sequences in one context, evaluated side by side; what they share is evaluated once.

    drawn      prompt ─┬─ answer 0            scored     prompt ─┬─ eternal life
                       ├─ answer 1                               └─ I would ─┬─ choose ...
                       └─ answer 2                                           └─ take ...

Every batch follows from the tokens alone, never from the time something took: the same calls give
the same results. How many tokens a batch has moves the last bits of some products, so an answer
drawn beside others can differ from the same seed's answer drawn alone.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.runner.crash.flight_recorder import ANSWERING, READING, recorder
from franken_gguf.runner.planning.memory_use import N_BATCH

from .backend import EngineError
from .context import Context
from .sampler import Sampler
from .token_tree import Node, TokenTree

F32 = NDArray[np.float32]


class Continuation(NamedTuple):
    """An answer to score after a prompt."""

    prompt: Sequence[int]
    answer: Sequence[int]
    after: int | None = None
    """Index of a drawn answer with which the prompt may begin; its evaluation is reused."""


@dataclass
class Drawn:
    """A sampled answer."""

    tokens: list[int] = field(default_factory=list)
    """Without the end token."""
    end_token: int | None = None
    """None if the token limit ended it."""


class Sequences(Context):
    """A context that evaluates several sequences together, as many as `n_sequences`.

    `clear` it before it evaluates a single sequence again.
    """

    _held: list[list[int]]
    """The evaluated tokens of each drawn answer with its prompt, by sequence id."""
    _cells = 0
    """Cells of the KV cache that they take."""

    def clear(self) -> None:
        """Forget all sequences."""
        with signals_held(self._signalled):
            lib.llama_memory_clear(self._memory, True)
        self.evaluated.clear()
        self._held, self._cells = [], 0

    def draw_beside(
        self, prompts: Sequence[Sequence[int]], samplers: Sequence[Sampler], max_tokens: int
    ) -> list[Drawn]:
        """An answer to each of the `prompts`, drawn side by side; they stay in the context.

        Raises EngineError, Stopped.
        """
        self.clear()
        tree, answers = TokenTree(), [Drawn() for _ in prompts]
        last = [tree.add(prompt, n, (None, 0))[-1] for n, prompt in enumerate(prompts)]
        self._held = [list(prompt) for prompt in prompts]

        def sample(sequence: int, index: int) -> None:
            row = self._logits_at(index)
            token = samplers[sequence].sample(self._context, row, index=index)
            if self.vocabulary.ends_answer(token):
                answers[sequence].end_token = token
            else:
                answers[sequence].tokens.append(token)

        with recorder.during(ANSWERING, str(self.header.path)):
            for index, node in self._evaluated(tree.nodes, set(last), N_BATCH):
                for sequence in (n for n, end in enumerate(last) if end == node):
                    sample(sequence, index)
            while going := [
                n
                for n, answer in enumerate(answers)
                if answer.end_token is None and len(answer.tokens) < max_tokens
            ]:
                nodes = [Node(answers[n].tokens[-1], len(self._held[n]), [n]) for n in going]
                for index, node in self._evaluated(nodes, range(len(nodes)), N_BATCH):
                    sample(going[node], index)
                for n, added in zip(going, nodes, strict=True):
                    self._held[n].append(added.token)
        return answers

    def score(self, paths: Sequence[Continuation], *, batch: int = N_BATCH) -> list[F32]:
        """For each continuation, the log-probability of each token of its answer.

        In batches of up to `batch` tokens. Answers drawn before stay in the context if it has
        sequences left; scored ones do not. Raises EngineError if one does not fit into the context
        or is empty; Stopped.
        """
        if self.evaluated or len(self._held) >= self.n_sequences:
            self.clear()
        found: list[F32] = []
        with recorder.during(READING, str(self.header.path)):
            while len(found) < len(paths):
                found += self._score(paths[len(found) :], batch)
        return found

    def _score(self, paths: Sequence[Continuation], batch: int) -> list[F32]:
        """The scores of as many of the first continuations as fit into the context together."""
        tree = TokenTree()
        wanted: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        ids = range(len(self._held), self.n_sequences)
        scores: list[F32] = []
        for sequence, path in zip(ids, paths, strict=False):
            tokens = [*path.prompt, *path.answer[:-1]]
            reused = self._reused(path)
            root = (path.after if reused else None, reused)
            if len(tree.nodes) + tree.missing(tokens[reused:], root) > self.n_ctx - self._cells:
                break
            nodes = tree.add(tokens[reused:], sequence, root)
            if reused:
                lib.llama_memory_seq_cp(self._memory, path.after, sequence, 0, reused)
            first = len(path.prompt) - reused - 1
            for place, token in enumerate(path.answer):
                wanted[nodes[first + place]].append((len(scores), place, token))
            scores.append(np.empty(len(path.answer), np.float32))
        if not scores:
            needed = len(paths[0].prompt) + len(paths[0].answer)
            raise EngineError(
                f"prompt and answer need {needed} tokens, but the context has {self.n_ctx}; "
                "shorten them or give a larger -c"
            )
        for index, node in self._evaluated(tree.nodes, wanted, batch):
            row = self._logits_at(index)
            total = row.max() + np.log(np.exp(row - row.max()).sum())
            for path_number, place, token in wanted[node]:
                scores[path_number][place] = row[token] - total
        with signals_held(self._signalled):
            for sequence in ids[: len(scores)]:
                lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return scores

    def _reused(self, path: Continuation) -> int:
        """How many tokens of the prompt are evaluated already; its last one never counts."""
        if not path.prompt or not path.answer:
            raise EngineError("nothing to score: the prompt or an answer is empty")
        if path.after is None or path.after >= len(self._held):
            return 0
        pairs = zip(self._held[path.after], path.prompt[:-1], strict=False)
        return next(
            (n for n, (old, new) in enumerate(pairs) if old != new),
            min(len(self._held[path.after]), len(path.prompt) - 1),
        )

    def _evaluated(
        self, nodes: Sequence[Node], outputs: Collection[int], most: int
    ) -> Iterator[tuple[int, int]]:
        """Evaluate all nodes; yield each of `outputs`, a node's index, after its place in a batch.

        Its logits are valid until the next is requested.
        """
        start = 0
        while start < len(nodes):
            end, rows = start, 0
            while end < len(nodes) and end - start < most and rows < self.plan.cache.n_outputs:
                rows += end in outputs
                end += 1
            self._decode_nodes(nodes[start:end], [n in outputs for n in range(start, end)])
            yield from ((n - start, n) for n in range(start, end) if n in outputs)
            start = end

    def _decode_nodes(self, nodes: Sequence[Node], flags: Sequence[bool]) -> None:
        batch, _arrays = _batch(nodes, flags)
        with self._abortable(), self._not_captured():
            self._run(batch)

    @contextmanager
    def _not_captured(self) -> Iterator[None]:
        # Capturing slows every batch, and one without outputs has no rows in the last layer.
        if self._probe:
            self._probe.is_paused = True
        try:
            yield
        finally:
            if self._probe:
                self._probe.is_paused = False

    def _logits_at(self, index: int) -> F32:
        """The logits after a token of the last batch, (vocabulary,); llama.cpp's memory."""
        pointer = lib.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))


def _batch(nodes: Sequence[Node], flags: Sequence[bool]) -> tuple[Any, list[Any]]:
    """A llama_batch, and the arrays that it points to and that must outlive it."""
    count, number = len(nodes), ctypes.POINTER(ctypes.c_int32)
    ids = [(ctypes.c_int32 * len(node.sequences))(*node.sequences) for node in nodes]
    arrays = [
        (ctypes.c_int32 * count)(*(node.token for node in nodes)),
        (ctypes.c_int32 * count)(*(node.position for node in nodes)),
        (ctypes.c_int32 * count)(*map(len, ids)),
        (number * count)(*(ctypes.cast(some, number) for some in ids)),
        (ctypes.c_int8 * count)(*flags),
    ]
    tokens, positions, counts, sequences, logits = arrays
    batch = lib.llama_batch(
        n_tokens=count,
        token=tokens,
        pos=positions,
        n_seq_id=counts,
        seq_id=sequences,
        logits=logits,
    )
    return batch, [*arrays, ids]
