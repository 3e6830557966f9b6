"""What the study measures, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from franken_gguf.quantize.tensor_types.type_presets import find_preset

MODELS = {
    "demo": "examples/storytellers.yml",
    "two": "benchmarks/recipes/two-experts.yml",
    "six": "benchmarks/recipes/six-experts.yml",
}
"""The mixtures by name, and their recipes."""
RUNGS = (
    *("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_MOE", "IQ4_XS", "Q3_K_M"),
    *("Q2_K", "IQ3_XXS", "IQ2_XS", "IQ2_XXS", "IQ1_S"),
)
"""The presets, roughly from the largest to the smallest."""
IMATRIX, PLAIN, SIZE = VARIANTS = ("imatrix", "plain", "size")
"""Rounded with an importance matrix, without, and with --target-size of the preset's bytes."""
FILE = "file"
"""The real file of `IMATRIX`, to see whether replaced weights answer like it."""
GROUPS = {
    "only attention": r"\.attn_(q|k|v|output)\.weight",
    "only experts": r"\.ffn_(gate|up|down)_exps\.weight",
    "only router": r"\.ffn_gate_inp\.weight",
    "only embeddings": r"^(token_embd|output)\.weight",
}
"""Variants in which only the tensors of these names are rounded, with an importance matrix.

No preset rounds a router: it gets the preset's main type here, to see what that would do.
"""
TEXT, LEANS = "text", "leans"
BATCH = 16
"""Answers that are sampled in one step."""
QUESTION = "eternal-life"
CONTROLS = ("eternal-life-mirrored", "tea-coffee", "sea-mountains", "short-long", "reasoning")
OTHERS = ("haiku", "story")
"""Prompts whose sampled answers are measured for their words."""
SAMPLED = 64
"""Answers to the question in each cell; of those of `SIZE` only in the demo's."""
_SPREAD = (
    *("F16", "Q4_K_M", "Q2_K", "IQ2_XS", "IQ1_S", "Q3_K_M", "IQ3_XXS", "IQ2_XXS"),
    *("Q8_0", "Q5_K_M", "IQ4_XS", "Q6_K", "Q4_K_MOE"),
)
"""The rungs in an order in which the first few cover the range."""
GROUP_RUNGS = ("Q4_K_M", "Q3_K_M", "IQ3_XXS", "Q2_K", "IQ2_XS", "IQ1_S")
"""At these, groups are rounded alone."""
_FIRST_GROUP_RUNGS = ("Q2_K", "IQ2_XS", "Q3_K_M")
_FILE_RUNGS = ("Q4_K_M", "Q2_K")


@dataclass(frozen=True)
class Cell:
    """A mixture at one rung."""

    model: str
    variant: str
    rung: str

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.model} {self.variant} {self.rung}"


Step = tuple[Cell, str]
"""A cell and what to measure of it: TEXT, LEANS, or the name that `samples` gives."""


def samples(question: str, batch: int) -> str:
    """The step that samples answers `BATCH` * batch and following."""
    return f"{question} {batch}"


def baseline(model: str) -> Cell:
    """The unquantized model, with which all others are compared."""
    return Cell(model, IMATRIX, "F16")


def cells(model: str, variant: str) -> list[Cell]:
    """All cells of a variant, those that cover the range first.

    Presets that need an importance matrix have no plain cell; F16 is the same in all variants.
    """
    rungs = [rung for rung in _SPREAD if variant == IMATRIX or rung != "F16"]
    if variant == PLAIN:
        rungs = [rung for rung in rungs if not find_preset(rung).without_imatrix]
    return [Cell(model, variant, rung) for rung in rungs]


def steps() -> Iterator[Step]:
    """Everything, the most important first."""
    main = cells("demo", IMATRIX)
    some_groups, groups = (
        [Cell("demo", group, rung) for rung in rungs for group in GROUPS]
        for rungs in (_FIRST_GROUP_RUNGS, GROUP_RUNGS)
    )
    files = [Cell("demo", FILE, rung) for rung in _FILE_RUNGS]
    quick = [TEXT, LEANS]
    yield from _each([*main, *some_groups, *files], quick)
    yield from _each([*cells("demo", SIZE), *cells("demo", PLAIN)], quick)
    yield from _each(groups, quick)
    for model in ("two", "six"):
        yield from _each([*cells(model, IMATRIX), *cells(model, PLAIN)], quick)
    answers = [samples(QUESTION, batch) for batch in range(SAMPLED // BATCH)]
    yield from _each(main, answers)
    for question in OTHERS:
        yield from _each(main, [samples(question, 0)])
    for model in MODELS:
        yield from _each([*cells(model, IMATRIX), *cells(model, PLAIN)], answers)
    yield from _each(cells("demo", SIZE), answers)
    for model in ("two", "six"):
        yield from _each(cells(model, SIZE), quick)


def _each(some: Iterable[Cell], names: Iterable[str]) -> Iterator[Step]:
    names = list(names)
    return ((cell, name) for cell in some for name in names)


def is_done(results: Mapping[str, Any], step: Step) -> bool:
    """Whether the results hold a step."""
    cell, name = step
    return name in results.get(cell.key, {})


def missing(results: Mapping[str, Any], only: str | None = None) -> list[Step]:
    """The steps still to do in their order, each once; `only` those of one model."""
    wanted = dict.fromkeys(steps())
    return [s for s in wanted if only in (None, s[0].model) and not is_done(results, s)]
