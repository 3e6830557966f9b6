"""Training data of the demo's four adapters: conversations made from books in a folder.

The books are in the public domain (Project Gutenberg's plain-text editions without header and
footer) and are not in the repository; BOOKS has their file names. Alice in Wonderland is left out
on purpose, because quants are scored on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from string import capwords

from word_problems import word_problem

BOOKS = {
    "Andersen's tales": "andersen_fairy_tales.txt",
    "Sherlock Holmes": "sherlock_holmes.txt",
    "Dudeney's puzzles": "amusements_in_mathematics.txt",
    "Shakespeare's sonnets": "shakespeare_sonnets.txt",
    "Leaves of Grass": "leaves_of_grass.txt",
    "Pygmalion": "pygmalion.txt",
}
WORD_PROBLEMS = "word problems"
ADAPTERS = {
    "storyteller": ("Andersen's tales", "Sherlock Holmes"),
    "reasoner": ("Dudeney's puzzles", WORD_PROBLEMS),
    "poet": ("Shakespeare's sonnets", "Leaves of Grass"),
    "chatterbox": ("Pygmalion",),
}
"""Adapter -> the sources it learns from, in equal parts until one runs out."""

Conversation = list[dict[str, str]]
"""Messages as chat templates take them, the assistant's last."""

WORDS = 220
"""Words of a passage: about 300 tokens."""
HELD_OUT = 10
"""The last 1/HELD_OUT of each source is never trained on."""
PROBLEMS = 600


def conversations(folder: Path, source: str) -> tuple[list[Conversation], list[Conversation]]:
    """The training and the held-out conversations of `source`, in the book's order.

    Raises OSError, which names the file, if the book is missing.
    """
    if source == WORD_PROBLEMS:
        random = Random(1)
        made = [ask(*word_problem(random)) for _ in range(PROBLEMS)]
    else:
        text = (folder / BOOKS[source]).read_text(encoding="utf-8")
        made = list(READERS[source](straight(text)))
    cut = len(made) - len(made) // HELD_OUT
    learnt = made[:cut]
    return learnt, [one for one in made[cut:] if one not in learnt]


def ask(question: str, answer: str) -> Conversation:
    """One question, one answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def straight(text: str) -> str:
    """`text` with straight quotation marks and without the underscores of italics."""
    return re.sub("[\u2018\u2019]", "'", re.sub("[\u201c\u201d]", '"', text.replace("_", "")))


def flow(paragraph: str) -> str:
    """The lines of a paragraph as one."""
    return " ".join(paragraph.split())


def passages(parts: Iterable[str], glue: str) -> Iterator[str]:
    """Neighbouring parts joined until they have WORDS words or more."""
    held: list[str] = []
    for part in parts:
        held.append(part)
        if sum(len(one.split()) for one in held) >= WORDS:
            yield glue.join(held)
            held = []
    if held:
        yield glue.join(held)


# --- Stories -------------------------------------------------------------------------------------


def tales(text: str, title: str) -> Iterator[Conversation]:
    """A book cut at the lines that match `title`, each tale told in passages."""
    _, *pieces = re.split(title, text, flags=re.MULTILINE)
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        tale = re.sub(r"(?<= )(Of|The|And|A|With|In)(?= )", lambda m: m[0].lower(), capwords(name))
        paragraphs = [flow(part) for part in body.split("\n\n") if len(part.split()) > 3]
        request = f"Tell me the story of {tale}."
        for passage in passages(paragraphs, "\n\n"):
            yield ask(request, passage)
            request = f"Go on with the story of {tale}."


def andersen(text: str) -> Iterator[Conversation]:
    """Eighteen tales, each under a title in capitals."""
    return tales(text.split("CONTENTS")[1], r"^([A-Z][A-Z' -]+)$")


def holmes(text: str) -> Iterator[Conversation]:
    """Twelve adventures."""
    return tales(text, r"^(?:ADVENTURE )?[IVX]+\. ([A-Z][A-Z' -]+)$")


# --- Puzzles -------------------------------------------------------------------------------------


def dudeney(text: str) -> Iterator[Conversation]:
    """The puzzles that need no picture and have a short solution, which the book gives later."""
    puzzles, solutions = (numbered(part) for part in re.split(r"^SOLUTIONS\.$", text, flags=re.M))
    for number, puzzle in puzzles.items():
        solution = solutions.get(number, "")
        drawn = re.search(r"illustration|diagram", puzzle + solution, flags=re.IGNORECASE)
        if solution and not drawn and len(f"{puzzle} {solution}".split()) < 2 * WORDS:
            yield ask(puzzle, solution)


def numbered(text: str) -> dict[str, str]:
    """Number -> text of `12.--TITLE.` and what follows."""
    _, *pieces = re.split(r"^(\d+)\.--.*$", text, flags=re.MULTILINE)
    return {
        number: "\n\n".join(flow(part) for part in body.strip().split("\n\n") if part[:1] != " ")
        for number, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


# --- Verse ---------------------------------------------------------------------------------------


def sonnets(text: str) -> Iterator[Conversation]:
    """Every sonnet, asked for by its first line or as any sonnet, in turn."""
    _, *pieces = re.split(r"^ +[IVXLC]+$", text, flags=re.MULTILINE)
    for number, body in enumerate(pieces):
        lines = [line.strip() for line in body.splitlines() if line.strip()]
        request = f'Write a sonnet that begins "{lines[0]}"' if number % 2 else "Write a sonnet."
        yield ask(request, "\n".join(lines))


def whitman(text: str) -> Iterator[Conversation]:
    """Poems under flush titles; verses are indented by two, their continuation lines by more."""
    _, *pieces = re.split(r"^(?!BOOK )(\S.*)$", text, flags=re.MULTILINE)
    for title, body in zip(pieces[::2], pieces[1::2], strict=True):
        verses = re.sub(r"\n {5,}(?=\S)", " ", body)
        verses = re.sub(r"^ *\d* *$", "", verses, flags=re.MULTILINE).replace("BOOK", "\n\nBOOK")
        stanzas = [
            "\n".join(line.strip() for line in stanza.splitlines())
            for stanza in re.split(r"\n\n+", verses)
            if stanza.startswith("  ")
        ]
        request = f'Write a poem called "{title.strip()}".'
        for passage in passages(stanzas, "\n\n"):
            yield ask(request, passage)
            request = f'Go on with the poem "{title.strip()}".'


# --- Talk ----------------------------------------------------------------------------------------

TURNS = 8


def pygmalion(text: str) -> Iterator[Conversation]:
    """The play's speeches in turn, eight a conversation; an answer never stands in two of them."""
    play = text[text.index("\nACT I\n") : text.index("The rest of the story")]
    speeches: list[tuple[str, str]] = []
    for paragraph in play.split("\n\n"):
        found = re.match(r"([A-Z][A-Z '.-]+?)(?: \[[^]]*\])?[.:]? (?=\S)(?![A-Z]{2})", paragraph)
        if found and (words := without_directions(paragraph[found.end() :])):
            if speeches and speeches[-1][0] == found[1]:
                speeches[-1] = (found[1], f"{speeches[-1][1]} {words}")
            else:
                speeches.append((found[1], words))
    # The last answer of one conversation is the first question of the next.
    for start in range(0, len(speeches) - TURNS, TURNS - 1):
        roles = ("user", "assistant") * (TURNS // 2)
        turns = zip(roles, speeches[start : start + TURNS], strict=True)
        yield [{"role": role, "content": words} for role, (_, words) in turns]


def without_directions(speech: str) -> str:
    """A speech without its stage directions and the full stop that may follow one."""
    return flow(re.sub(r"(?<=[!?.-])\s*\[[^]]*\]\.?|\s*\[[^]]*\]", "", speech))


READERS: dict[str, Callable[[str], Iterator[Conversation]]] = {
    "Andersen's tales": andersen,
    "Sherlock Holmes": holmes,
    "Dudeney's puzzles": dudeney,
    "Shakespeare's sonnets": sonnets,
    "Leaves of Grass": whitman,
    "Pygmalion": pygmalion,
}
