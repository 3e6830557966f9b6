"""Time that lorebooks take per turn: a card's book together with a world of 10,000 entries.

    .venv/bin/python benchmarks/lorebook.py

Each turn brings two messages of 120 words. A third of the entries have secondary keys, one in a
hundred a regular expression, one in a thousand is constant; all of them may call for others. A
turn's time is the processor's, so that other work on the machine does not count.
"""

from __future__ import annotations

import random
import statistics
import time

from franken_gguf.runner.story.active_lore import Lore, Moment
from franken_gguf.runner.story.lorebook import lorebook_from

ENTRIES, TURNS, WORDS = 10_000, 50, 120
_LETTERS = "bcdfghklmnprstvw"


def _word(dice: random.Random) -> str:
    return "".join(dice.choice(_LETTERS) + dice.choice("aeiou") for _ in range(dice.randint(2, 4)))


def _text(count: int, share: float, keys: list[str], dice: random.Random) -> str:
    """`count` words of which `share` are drawn from the words that keys are drawn from."""
    words = (dice.choice(keys) if dice.random() < share else "and" for _ in range(count))
    return " ".join(words)


def _entry(number: int, share: float, words: list[str], dice: random.Random) -> dict[str, object]:
    entry: dict[str, object] = {
        "keys": dice.sample(words, 3),
        "content": _text(40, share, words, dice),
        "insertion_order": dice.randrange(200),
        "constant": number % 1000 == 0,
    }
    if number % 3 == 0:
        entry |= {"selective": True, "secondary_keys": dice.sample(words, 4)}
    if number % 100 == 5:
        entry["keys"] = [rf"/\b{dice.choice(words)}(ed|ing)? (the )?{dice.choice(words)}\b/i"]
    return entry


def measure(share: float) -> str:
    """One line on fifty turns of gibberish."""
    dice = random.Random(8)
    words = [_word(dice) for _ in range(40_000)]
    entries = [_entry(number, share, words, dice) for number in range(ENTRIES)]
    started = time.perf_counter()
    lore = Lore([lorebook_from({"entries": entries}, "world")])
    read = time.perf_counter() - started
    texts: list[str] = []
    seconds, called, active = [], [], []
    for _ in range(TURNS):
        for _ in range(2):
            texts.insert(0, _text(WORDS, share, words, dice))
        started = time.thread_time()
        found = lore.matches(Moment(texts, budget=2000), count_tokens=lambda text: len(text) // 4)
        seconds.append(time.thread_time() - started)
        called.append(len(found))
        active.append(sum(one.is_active for one in found))
    median, most = 1000 * statistics.median(seconds), 1000 * max(seconds)
    return (
        f"{share:5.0%} {read:7.2f} s {median:7.1f} ms {most:7.1f} ms "
        f"{statistics.mean(called):7.0f} {statistics.mean(active):7.1f}"
    )


def main() -> None:
    """Print a table."""
    print(f"{ENTRIES} entries; keys among words, reading, a turn (median, most), called, active")
    for share in (0.02, 0.1, 1.0):
        print(measure(share))


if __name__ == "__main__":
    main()
