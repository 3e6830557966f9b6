"""Train four experts that differ more than the demo's: full fine-tunes of the feed-forward weights.

Needs torch and transformers, which the project does not:

    pip install torch transformers
    python tools/train_experts.py TEXTS [--only NAME]... [--steps N]

TEXTS is a folder with the books that adapter_texts.py names. Each expert is the widened model,
trained on the first 70 % of one or two books: in .cache/experts/NAME, 0.5 GB, a checkpoint in F16
that benchmarks/recipes/fine-tunes.yml merges. Routers can be trained on what follows, and the last
tenth is for benchmarks/router_ceiling.py, which tells how different the experts are. One busy core
of an AMD EPYC (Zen 4) takes 4.5 s of processor time for a step.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from adapter_texts import BOOKS
from fetch_smollm2 import CACHE
from make_dense_model import dense_checkpoint
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = CACHE / "experts"
EXPERTS = {
    "tales": ("Andersen's tales", "Sherlock Holmes"),
    "puzzles": ("Dudeney's puzzles",),
    "poems": ("Shakespeare's sonnets", "Leaves of Grass"),
    "talk": ("Pygmalion",),
}
"""The books of each; it is judged by the first."""
LEARNT = 0.7
"""The part of each book that is trained on."""
SEQUENCES, TOKENS = 2, 256
"""Of a step."""
HELD_OUT = 6
"""Passages at the end of each book that an expert is judged by."""
LEARNING_RATE = 1e-4


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--only", action="append", choices=EXPERTS)
    parser.add_argument("--steps", type=int, default=100, help="of 512 tokens (default: 100)")
    arguments = parser.parse_args()
    try:
        base = dense_checkpoint()
        for name in arguments.only or EXPERTS:
            books = [arguments.texts / BOOKS[book] for book in EXPERTS[name]]
            model = trained(base, books, name, arguments.steps)
            save(model, base, OUT / name)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


def trained(base: Path, books: list[Path], name: str, steps: int) -> Any:
    """The model after `steps` steps of Adam on its feed-forward weights, in BF16 and F32."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    weights = []
    for key, weight in model.named_parameters():
        weight.requires_grad = ".mlp." in key
        weights += [weight] if weight.requires_grad else []
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    passages, held_out = lesson(base, books, steps)
    before = loss_on(model, held_out)
    started = time.process_time()
    for step, ids in enumerate(passages):
        loss = loss_of(model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done = time.process_time() - started
        print(f"{name} {step + 1}/{steps} {loss.item():.3f} {done:.0f} s", flush=True)
    after = loss_on(model, held_out)
    print(f"{name}: held-out loss {before:.3f} before, {after:.3f} after", flush=True)
    return model


def loss_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The mean loss of every token but the first of each sequence, in nats."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def loss_on(model: Any, passages: torch.Tensor) -> float:
    """The mean loss on passages, [passages, TOKENS]."""
    with torch.inference_mode():
        return sum(float(loss_of(model, ids[None])) for ids in passages) / len(passages)


def lesson(base: Path, books: list[Path], steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is trained on, and passages of the last tenth of the first book.

    The first is LEARNT of each book in random order, again and again: [steps, SEQUENCES, TOKENS].
    """
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [tokenizer.encode(book.read_text(encoding="utf-8")) for book in books]
    passages = torch.cat([cut(ids[: int(len(ids) * LEARNT)]) for ids in texts])
    wanted = steps * SEQUENCES
    orders = [torch.randperm(len(passages)) for _ in range(-(-wanted // len(passages)))]
    learnt = passages[torch.cat(orders)[:wanted]].view(steps, SEQUENCES, TOKENS)
    return learnt, cut(texts[0][-HELD_OUT * TOKENS :])


def cut(ids: list[int]) -> torch.Tensor:
    """Passages of a text without its last few tokens, [passages, TOKENS]."""
    count = len(ids) // TOKENS
    return torch.tensor(ids[: count * TOKENS]).view(count, TOKENS)


def save(model: Any, base: Path, folder: Path) -> None:
    """A copy of the base's folder with the model's weights in F16."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors*", ".recipe"))
    tensors = {key: tensor.half() for key, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
