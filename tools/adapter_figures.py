"""Print examples/adapters/held_out.json as the table in the docs.

Run: python tools/adapter_figures.py. Prints Markdown.
"""

from __future__ import annotations

import json
from pathlib import Path

FIGURES = Path(__file__).resolve().parent.parent / "examples" / "adapters" / "held_out.json"


def table() -> str:
    """One row per held-out text, one column per model, the text's own adapter in bold."""
    held_out = json.loads(FIGURES.read_text(encoding="utf-8"))["held_out"]
    models = list(next(iter(held_out.values()))["nats_per_token"])
    lines = [
        f"| held-out part of | tokens | {' | '.join(models)} |",
        f"|---|---:|{'---:|' * len(models)}",
    ]
    for source, figures in held_out.items():
        nats = figures["nats_per_token"]
        cells = [
            f"**{nats[name]:.3f}**" if name == figures["adapter"] else f"{nats[name]:.3f}"
            for name in models
        ]
        lines.append(f"| {source} | {figures['tokens']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
