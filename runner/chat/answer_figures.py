"""The line of figures after an answer: its tokens and speed, in full also prompt and context."""

from __future__ import annotations

from typing import Literal

from franken_gguf.runner.engine.generation import Generation

Figures = Literal["off", "short", "full"]

_ENDS = {
    "length": "stopped at the -n limit",
    "context": "context full, -c sets a larger one",
    "interrupted": "stopped",
}


def figures(done: Generation, *, is_full: bool = False) -> str:
    """One line in brackets; why the answer ended where the model did not end it."""
    parts = [f"{done.tokens} tokens, {done.tokens_per_second:.1f} tokens/s"]
    if is_full:
        parts += [
            f"prompt: {done.prompt_evaluated} evaluated in {done.prompt_seconds:.2f} s, "
            f"{done.prompt_reused} reused",
            f"context: {done.prompt_tokens + done.tokens} of {done.n_ctx}",
        ]
    if done.rewound:
        parts.append(f"{done.rewound} rewound for bans")
    if done.finish in _ENDS:
        parts.append(_ENDS[done.finish])
    return f"[{'; '.join(parts)}]"
