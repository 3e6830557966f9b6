"""What `/show prompt` shows: the prompt part by part, with tokens and why each is there."""

from __future__ import annotations

from collections.abc import Sequence

from franken_gguf.runner.chat.prompt_parts import Part, PromptParts
from franken_gguf.runner.terminal.graphemes import beginning

_LISTED = 8  # messages


def prompt_view(prompt: PromptParts) -> str:
    """The prompt as text: its size, what stands beside the messages, then the latest messages."""
    active = [one for one in prompt.inserts if one.is_active]
    inactive = [one for one in prompt.inserts if not one.is_active]
    rows = [(str(one.tokens), one.kind, one.name, one.why) for one in active]
    rows += _messages([part for part in prompt.parts if part.kind == "message"])
    rows += [("-", one.kind, one.name, one.why) for one in inactive]
    widths = [max((len(row[n]) for row in rows), default=0) for n in range(3)]
    lines = [
        f"{tokens:>{widths[0]}}  {kind:{widths[1]}}  {name[:24]:{min(24, widths[2])}}  {why}"
        for tokens, kind, name, why in rows
    ]
    return "\n".join([_head(prompt), *(line.rstrip() for line in lines), *_dropped(prompt)])


def _head(prompt: PromptParts) -> str:
    sums = dict.fromkeys(("system", "message", "template"), 0)
    for part in prompt.parts:
        sums[part.kind] += part.tokens
    return (
        f"the model reads {prompt.tokens} of {prompt.n_ctx} tokens: {sums['system']} in the system "
        f"text, {sums['message']} in messages, {sums['template']} of the template"
    )


def _messages(parts: Sequence[Part]) -> list[tuple[str, str, str, str]]:
    """The latest messages; those before them in one row."""
    earlier, latest = parts[:-_LISTED], parts[-_LISTED:]
    rows = [(str(part.tokens), "message", "", _beginning(part.text)) for part in latest]
    if earlier:
        tokens = sum(part.tokens for part in earlier)
        rows.insert(0, (str(tokens), "message", "", f"{len(earlier)} earlier ones"))
    return rows


def _beginning(text: str) -> str:
    return beginning(" ".join(text[:400].split()), 60)


def _dropped(prompt: PromptParts) -> list[str]:
    if not prompt.dropped:
        return []
    count = "message is" if prompt.dropped == 1 else f"{prompt.dropped} messages are"
    return [f"the first {count} no longer in the context"]
