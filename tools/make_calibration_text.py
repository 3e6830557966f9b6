"""Make the calibration set of `franken-gguf imatrix`, runner/imatrix/calibration.jsonl.

Every word of it is ours: prose and dialogues in tools/calibration/, word problems, stories, lists,
tables and sentences composed from parts by a seed, and this project's own code and documentation.
Each line is a document: {"kind", "text"} or {"kind", "messages"}. The kinds take turns, so that any
beginning of the set has all of them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import yaml
from word_problems import word_problem

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "tools" / "calibration"
TARGET = ROOT / "runner" / "imatrix" / "calibration.jsonl"
SEED = 1
STORIES, PROBLEMS, TABLES, RECORDS, GUIDES, SENTENCES = 60, 110, 45, 30, 30, 12
CODE = ("quantize", "runner")
CODE_FILES, DOC_SECTIONS = 26, 34
MOST_CHARACTERS = 2600
"""Of one piece of code or documentation."""

Document = dict[str, Any]


def main() -> None:
    """Write the set."""
    documents = in_turns(list(made(Random(SEED))), Random(SEED))
    lines = [json.dumps(document, ensure_ascii=False) for document in documents]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    nbytes: defaultdict[str, int] = defaultdict(int)
    for document, line in zip(documents, lines, strict=True):
        nbytes[document["kind"]] += len(line.encode())
    print(
        f"{TARGET.relative_to(ROOT)}: {len(lines)} documents, {sum(nbytes.values()) / 1e3:.0f} kB"
    )
    for kind, size in sorted(nbytes.items(), key=lambda item: -item[1]):
        print(f"  {kind} {size / 1e3:.0f} kB")


def made(random: Random) -> Iterator[Document]:
    """All documents, kind by kind."""
    parts = read("parts.yml")
    for kind, texts in read("passages.yml").items():
        for text in texts:
            yield {"kind": kind, "text": text.strip()}
    for dialogue in read("dialogues.yml"):
        yield {"kind": "dialogue", "messages": messages(dialogue)}
    for _ in range(PROBLEMS):
        question, answer = word_problem(random)
        yield {"kind": "problem", "messages": messages({"turns": [question, answer]})}
    for _ in range(STORIES):
        yield {"kind": "composed story", "text": story(parts, random)}
    for number in range(TABLES):
        yield {"kind": "table", "text": TABLE_STYLES[number % len(TABLE_STYLES)](parts, random)}
    for number in range(RECORDS):
        yield {"kind": "record", "text": (log, settings)[number % 2](parts, random)}
    for _ in range(GUIDES):
        yield {"kind": "guide", "messages": messages({"turns": guide(parts, random)})}
    for language, (sentences,) in parts["sentences"].items():
        for _ in range(SENTENCES):
            chosen = random.sample(sentences, min(4, len(sentences)))
            text = " ".join(one.format(n=random.randint(2, 60)) for one in chosen)
            yield {"kind": f"sentences, {language}", "text": text}
    yield from code(random)
    yield from documentation(random)


def read(name: str) -> Any:
    """One of the files in tools/calibration/."""
    return yaml.safe_load((PARTS / name).read_text(encoding="utf-8"))


def messages(dialogue: Document) -> list[dict[str, str]]:
    """A dialogue as chat templates take it."""
    system = [{"role": "system", "content": dialogue["system"]}] if "system" in dialogue else []
    turns = [
        {"role": "assistant" if number % 2 else "user", "content": turn}
        for number, turn in enumerate(dialogue["turns"])
    ]
    return system + turns


def story(parts: Document, random: Random) -> str:
    """A short story: one sentence or two for each of its beats."""
    hero, other = random.sample(parts["heroes"], 2)
    words = {
        "hero": hero,
        "other": other,
        "place": random.choice(parts["places"]),
        "thing": random.choice(parts["things"]),
    }
    told = [
        sentence.format(**words)
        for beat in parts["beats"]
        for sentence in random.sample(beat, random.choice((1, 2, 2)))
    ]
    sentences = [sentence[0].upper() + sentence[1:] for sentence in told]
    half = len(sentences) // 2
    return " ".join(sentences[:half]) + "\n\n" + " ".join(sentences[half:])


def rows(parts: Document, random: Random) -> list[tuple[str, str, int, float]]:
    """Lines of an invented delivery note: goods, city, number, price."""
    goods = random.sample(parts["goods"], random.randint(4, 8))
    return [
        (
            one,
            random.choice(parts["cities"]),
            random.randint(1, 400),
            random.randint(99, 9999) / 100,
        )
        for one in goods
    ]


def markdown_table(parts: Document, random: Random) -> str:
    """A table in Markdown, with its sum in words."""
    lines = rows(parts, random)
    body = [f"| {one} | {city} | {n} | {price:.2f} |" for one, city, n, price in lines]
    total = sum(n * price for _, _, n, price in lines)
    head = ["| item | from | number | price |", "|---|---|---:|---:|"]
    return "\n".join([*head, *body, "", f"Together these cost {total:,.2f}."])


def csv_table(parts: Document, random: Random) -> str:
    """The same as comma-separated values."""
    body = [f"{one},{city},{n},{price:.2f}" for one, city, n, price in rows(parts, random)]
    return "\n".join(["item,city,number,price", *body])


def json_table(parts: Document, random: Random) -> str:
    """The same as JSON."""
    keys = ("item", "city", "number", "price")
    return json.dumps([dict(zip(keys, row, strict=True)) for row in rows(parts, random)], indent=2)


TABLE_STYLES = (markdown_table, csv_table, json_table)


def log(parts: Document, random: Random) -> str:
    """An invented log of a service."""
    when = datetime(2026, 3, random.randint(1, 28), random.randint(0, 20))
    lines = []
    for _ in range(random.randint(6, 12)):
        when += timedelta(seconds=random.randint(1, 400))
        level = random.choice(("INFO", "INFO", "INFO", "WARN", "ERROR"))
        city, goods = random.choice(parts["cities"]), random.choice(parts["goods"])
        took, number = random.randint(2, 4000), random.getrandbits(32)
        lines.append(
            f"{when.isoformat()}Z {level} depot={city.lower()} sku={goods} took={took}ms "
            f"id={number:08x}"
        )
    return "\n".join(lines)


def settings(parts: Document, random: Random) -> str:
    """An invented settings file in YAML."""
    city = random.choice(parts["cities"])
    content = {
        "depot": {"city": city, "open": random.random() < 0.7, "docks": random.randint(1, 9)},
        "stock": {one: random.randint(0, 900) for one in random.sample(parts["goods"], 5)},
        "contacts": [f"{city.lower()}-{n}@example.org" for n in range(random.randint(1, 3))],
    }
    return str(yaml.safe_dump(content, sort_keys=False)).strip()


def guide(parts: Document, random: Random) -> list[str]:
    """A question for advice, and a numbered list."""
    topic = random.choice(parts["topics"])
    steps = random.sample(parts["steps"], random.randint(4, 7))
    listed = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    asked = random.choice(
        ("Give me a short checklist for {}.", "What should I keep in mind about {}?")
    )
    return [asked.format(topic), f"For {topic}:\n\n{listed}"]


def code(random: Random) -> Iterator[Document]:
    """The beginnings of some of this project's files."""
    paths = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    long = [path for path in paths if path.stat().st_size > MOST_CHARACTERS]
    for path in random.sample(long, CODE_FILES):
        yield {"kind": "code", "text": whole_lines(path.read_text(encoding="utf-8"))}


def documentation(random: Random) -> Iterator[Document]:
    """Sections of this project's documentation."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    sections = [part for text in texts for part in re.split(r"(?m)^(?=## )", text)]
    long = [section.strip() for section in sections if len(section) > 500]
    for section in random.sample(long, DOC_SECTIONS):
        yield {"kind": "documentation", "text": whole_lines(section)}


def whole_lines(text: str) -> str:
    """The first lines, up to MOST_CHARACTERS."""
    return text[:MOST_CHARACTERS].rpartition("\n")[0].strip() or text


def in_turns(documents: list[Document], random: Random) -> list[Document]:
    """All kinds spread evenly over the whole set."""
    kinds: defaultdict[str, list[Document]] = defaultdict(list)
    for document in documents:
        kinds[document["kind"]].append(document)
    placed = []
    for some in kinds.values():
        random.shuffle(some)
        start = random.random()
        placed += [((number + start) / len(some), one) for number, one in enumerate(some)]
    return [one for _, one in sorted(placed, key=lambda item: item[0])]


if __name__ == "__main__":
    main()
