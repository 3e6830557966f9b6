"""Train the demo's four experts: LoRA adapters on the feed-forward of the widened SmolLM2-135M.

Needs torch, transformers and peft, which the project does not:

    pip install torch transformers peft
    python tools/train_adapters.py TEXTS          # all four, then the figures
    python tools/train_adapters.py TEXTS --only poet
    python tools/train_adapters.py TEXTS --measure

TEXTS is a folder with the books that adapter_texts.py names. Writes each adapter to
examples/adapters/NAME as peft saves it, in F16, and the loss of every adapter on the held-out part
of every source to examples/adapters/held_out.json. One core trains on 150 tokens per second.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import torch
from adapter_texts import ADAPTERS, Conversation, conversations
from checkpoint_folder import write_json
from make_dense_model import dense_checkpoint
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).resolve().parent.parent / "examples" / "adapters"
FIGURES = OUT / "held_out.json"

RANK, ALPHA = 8, 16
LEARNING_RATE = 5e-4
WARM_UP = 10
TOKENS = {"storyteller": 60_000, "reasoner": 40_000, "poet": 40_000, "chatterbox": 30_000}
"""Tokens seen in training, including questions; no text is seen twice."""
LONGEST = 448
"""Longest conversation in tokens; a longer one is cut, and dropped if no answer remains."""
MEASURED = 1_200
"""Most tokens scored of each source."""
IGNORED = -100
"""The label of tokens that do not count in the loss."""


@dataclass(frozen=True)
class Example:
    """Token ids of a conversation, and as labels those of the answers alone."""

    ids: list[int]
    labels: list[int]

    @property
    def scored(self) -> int:
        """Number of tokens in the loss; the first token is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


def main() -> None:
    """Train what is asked for, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--only", action="append", choices=ADAPTERS, help="train, do not measure")
    parser.add_argument("--measure", action="store_true", help="measure, do not train")
    arguments = parser.parse_args()
    try:
        base = dense_checkpoint()
        for name in () if arguments.measure else arguments.only or ADAPTERS:
            train(base, arguments.texts, name)
        if not arguments.only:
            measure(base, arguments.texts)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


def train(base: Path, texts: Path, name: str) -> None:
    """Make OUT/NAME: one conversation a step, AdamW, the rate rising and then falling."""
    torch.manual_seed(0)
    targets = ["gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM", bias="none"
    )
    model = get_peft_model(load(base), config)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01)
    examples = list(lesson(AutoTokenizer.from_pretrained(base), texts, name))
    started = time.monotonic()
    for step, example in enumerate(examples):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate(step, len(examples))
        loss = loss_of(model, example)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done = time.monotonic() - started
        print(f"{name} {step + 1}/{len(examples)} {loss.item():.3f} {done:.0f} s", flush=True)
    save(model, OUT / name)


def lesson(tokenizer: Any, texts: Path, name: str) -> Iterator[Example]:
    """TOKENS[name] of its sources in turn, each source shuffled and begun again at its end."""
    random = Random(name)
    sources = {}
    for source in ADAPTERS[name]:
        learnt, _ = conversations(texts, source)
        random.shuffle(learnt)
        sources[source] = cycle(learnt)
    seen = dict.fromkeys(sources, 0)
    while sum(seen.values()) < TOKENS[name]:
        # The source that has had least is next: equal parts in tokens, not in conversations.
        source = min(sources, key=seen.__getitem__)
        example = tokenized(tokenizer, next(sources[source]))
        seen[source] += len(example.ids)
        if example.scored:
            yield example


def tokenized(tokenizer: Any, conversation: Conversation) -> Example:
    """`conversation` under the model's own template, at most LONGEST tokens of it."""

    def rendered(count: int, is_asked: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            conversation[:count], tokenize=False, add_generation_prompt=is_asked
        )
        return text

    ids: list[int] = []
    labels: list[int] = []
    before = ""
    for count in range(1, len(conversation), 2):
        asked, answered = rendered(count, True), rendered(count + 1, False)
        question = tokenizer.encode(asked[len(before) :], add_special_tokens=False)
        answer = tokenizer.encode(answered[len(asked) :], add_special_tokens=False)
        ids += question + answer
        labels += [IGNORED] * len(question) + answer
        before = answered
    return Example(ids[:LONGEST], labels[:LONGEST])


def loss_of(model: Any, example: Example) -> torch.Tensor:
    """The mean over the answers' tokens, in nats."""
    llama = model.get_base_model()
    states = llama.model(torch.tensor([example.ids])).last_hidden_state[0, :-1]
    labels = torch.tensor(example.labels[1:])
    scored = labels != IGNORED
    # Logits of the scored tokens alone: the vocabulary is a fifth of such a small model.
    logits = llama.lm_head(states[scored]).float()
    return torch.nn.functional.cross_entropy(logits, labels[scored])


def rate(step: int, steps: int) -> float:
    """The part of the learning rate at `step`: up in a line, down in a cosine."""
    return min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def load(base: Path) -> Any:
    """The dense model in BF16, which halves the time; the adapters are trained in F32."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)


def save(model: Any, folder: Path) -> None:
    """The adapter in F16, its config naming the base and no folder of this machine."""
    for part in model.peft_config.values():
        part.base_model_name_or_path = dense_checkpoint().name
        part.inference_mode = True
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.half()
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def measure(base: Path, texts: Path) -> None:
    """Write FIGURES: nats per token, of the base and with each adapter, on each held-out text."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = None
    for name in ADAPTERS:
        if model is None:
            model = PeftModel.from_pretrained(load(base), OUT / name, name)
        else:
            model.load_adapter(OUT / name, name)
    figures: dict[str, Any] = {}
    for owner, sources in ADAPTERS.items():
        for source in sources:
            examples = within(MEASURED, tokenizer, conversations(texts, source)[1])
            with model.disable_adapter():
                nats = {"base": mean_loss(model, examples)}
            for name in ADAPTERS:
                model.set_adapter(name)
                nats[name] = mean_loss(model, examples)
            tokens = sum(example.scored for example in examples)
            figures[source] = {"adapter": owner, "tokens": tokens, "nats_per_token": nats}
            print(source, figures[source], flush=True)
    settings = {"rank": RANK, "alpha": ALPHA, "learning_rate": LEARNING_RATE, "tokens": TOKENS}
    write_json(FIGURES, {"training": settings, "held_out": figures})


def within(limit: int, tokenizer: Any, held_out: list[Conversation]) -> list[Example]:
    """As many of the held-out conversations as have `limit` scored tokens at most."""
    examples: list[Example] = []
    for conversation in held_out:
        example = tokenized(tokenizer, conversation)
        if sum(one.scored for one in examples) + example.scored > limit:
            break
        if example.scored:
            examples.append(example)
    return examples


def mean_loss(model: Any, examples: list[Example]) -> float:
    """Nats per token of the answers, over all examples as one text."""
    with torch.inference_mode():
        total = sum(float(loss_of(model, example)) * example.scored for example in examples)
    return round(total / sum(example.scored for example in examples), 4)


if __name__ == "__main__":
    main()
