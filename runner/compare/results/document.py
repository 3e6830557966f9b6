"""The result of a comparison as one document, and its JSON. Pure.

Equal runs give equal documents except for `Machine`. Logarithms are natural.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from .metrics import Estimate, Interval, LayerRouting
from .preference import Preference

FORMAT = 1
FEWEST_PARAPHRASES = 5
"""Paraphrases that an interval of a lean needs to mean anything."""
FEWEST_SAMPLES = 16
"""Sampled answers that an interval of their share needs to mean anything; below, only the count."""


@dataclass(frozen=True)
class Settings:
    """The settings that all models were measured with."""

    samples: int
    """Number of sampled answers for each prompt."""
    temperature: float
    seed: int
    """Seed of the first sampled answer; each further one adds 1."""
    max_tokens: int
    threads: int
    text: str
    """Name of the scored text; "" without one."""
    chunks: int
    """Chunks of the text that were scored, of `chunk_tokens` tokens each."""
    chunk_tokens: int


@dataclass(frozen=True)
class Prompt:
    """A question, and the measure of its answers."""

    name: str
    text: str
    """The wording that greedy answers answer."""
    wordings: int
    """Number of paraphrases, each order of their options counted."""
    labels: tuple[str, ...]
    """Names of the two answer sets; a lean above 0 is towards the first. Empty without sets."""
    measure: str
    """"lean", "variety" or "haiku"."""


@dataclass(frozen=True)
class Lean:
    """Log-odds of the first answer set against the second over all wordings."""

    raw: Interval
    """From the sums of the answers' probabilities; bootstrap interval over paraphrases."""
    per_token: Interval
    """From the means of the answers' probabilities per token."""
    order_effect: float
    """Mean `raw` with the first option named first, minus that of the other order."""
    paraphrases: tuple[float, ...]
    """`raw` of each paraphrase, averaged over both orders."""
    difference: Interval | None = None
    """`raw` minus the baseline's, paired by paraphrase; None for the baseline."""
    per_token_difference: Interval | None = None
    noise: float = 0.0
    """Mean change of the baseline's `raw` when it is evaluated in other batch sizes."""

    @property
    def moved(self) -> int:
        """1 or -1 if the lean has moved up or down from the baseline's, 0 if inconclusive.

        It has moved if the interval of the difference excludes 0, the difference exceeds the noise,
        and there are at least `FEWEST_PARAPHRASES` paraphrases.
        """
        if self.difference is None or len(self.paraphrases) < FEWEST_PARAPHRASES:
            return 0
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        if low * high <= 0 or abs(value) <= self.noise:
            return 0
        return 1 if value > 0 else -1


@dataclass(frozen=True)
class SampledAnswer:
    """An answer sampled at a temperature, and the option that the model says it chose."""

    seed: int
    text: str
    choice: int | None = None
    """Index into `Prompt.labels`; None without labels."""


@dataclass(frozen=True)
class Choices:
    """How many sampled answers chose the first label, by the model's own forced choice."""

    first: int
    share: Interval
    """With Wilson's 95 % interval."""


@dataclass(frozen=True)
class FirstDifference:
    """The first difference of a greedy answer from the baseline's."""

    token: int
    """Number of tokens that both have in common at the start."""
    character: int
    """Number of characters of the answer before the difference."""
    own: str
    """This model's token; "" for the end."""
    baseline: str
    """The baseline's token; "" for the end."""
    own_probability: tuple[float, float]
    """Probability of this model's token: in this model, in the baseline."""
    baseline_probability: tuple[float, float]
    """Probability of the baseline's token: in this model, in the baseline."""


@dataclass(frozen=True)
class GreedyAnswer:
    """An answer that takes the most likely token at each step."""

    text: str
    tokens: int
    is_cut: bool
    """Whether the token limit ended it."""
    difference: FirstDifference | None = None
    """None for the baseline and an identical answer."""


@dataclass(frozen=True)
class Variety:
    """Variety of words in the sampled answers, in lower case; distinct-n after Li et al. 2016."""

    words: int
    distinct_1: float
    distinct_2: float
    distinct_3: float
    repetition: float
    """Share of 4-grams of words that occurred earlier in the same answer."""
    vocabulary: float
    """Distinct words per 1,000 words, averaged over windows of 1,000."""


@dataclass(frozen=True)
class Haiku:
    """How many sampled answers are 5-7-5."""

    syllables: tuple[tuple[int, ...], ...]
    """Syllables of each line, by answer."""
    valid: Interval
    """Share of 5-7-5 answers, with Wilson's 95 % interval."""


@dataclass(frozen=True)
class PromptResult:
    """One model on one prompt."""

    greedy: GreedyAnswer
    samples: tuple[SampledAnswer, ...] = ()
    lean: Lean | None = None
    choices: Choices | None = None
    variety: Variety | None = None
    haiku: Haiku | None = None


@dataclass(frozen=True)
class TextScore:
    """Scores on given tokens, as llama-perplexity defines them. The baseline has no differences."""

    tokens: int
    ppl: Estimate
    ln_ratio: Estimate | None = None
    """ln of the ratio of perplexities."""
    correlation: float | None = None
    kld: Estimate | None = None
    kld_percentiles: dict[str, float] = field(default_factory=dict)
    dp: Estimate | None = None
    """Probability of the true token minus the baseline's, -1 to 1."""
    dp_rms: float | None = None
    same_top: Interval | None = None


@dataclass(frozen=True)
class Routing:
    """The experts that the routers chose at the scored positions of answers and text.

    Figures that compare are None for the baseline and if the baseline's routers differ in shape.
    """

    tokens: int
    layers: tuple[LayerRouting, ...]
    same_experts: float | None = None
    """Share of (token, layer) pairs with the same set of experts as the baseline."""
    jaccard: float | None = None
    kld: float | None = None
    """Mean KL divergence of router probabilities from the baseline's."""
    drift: tuple[int, ...] = ()
    """The most changed layers by `kld`, the largest first."""

    @property
    def load_entropy(self) -> float:
        """How evenly tokens are spread over experts, 0 to 1: the mean over layers."""
        return fmean(layer.load_entropy for layer in self.layers)


@dataclass(frozen=True)
class Machine:
    """Speed and memory: the figures that differ from run to run."""

    load_seconds: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_memory: int
    """Peak resident bytes of the model's process."""


@dataclass(frozen=True)
class ModelResult:
    """Everything measured of one model."""

    name: str
    """Short and unique: the type or the file's name."""
    file: str
    nbytes: int
    bits_per_weight: float
    experts: int
    """0 for a dense model."""
    experts_used: int
    prompts: tuple[PromptResult | None, ...] = ()
    """In the order of `Comparison.prompts`; None for one that could not be measured."""
    answers: TextScore | None = None
    """Scores on the baseline's greedy answers, all prompts together."""
    text: TextScore | None = None
    routing: Routing | None = None
    """None for a dense model."""
    machine: Machine | None = None
    error: str = ""
    """Why measuring stopped; the finished parts are present."""


@dataclass(frozen=True)
class Comparison:
    """A whole comparison; `models` are sorted by bits per weight, most first."""

    settings: Settings
    prompts: tuple[Prompt, ...]
    baseline: str
    """The name of the baseline model."""
    models: tuple[ModelResult, ...]
    conclusion: str = ""
    version: str = ""
    format: int = FORMAT
    expert_names: tuple[str, ...] = ()
    """In the order of the experts; empty if they are not known."""
    preferences: tuple[Preference, ...] = ()
    """Of each pair of models between which blind choices were made."""


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The document that --json prints: all members, and the entropies derived from loads."""
    document = asdict(comparison)
    for model, written in zip(comparison.models, document["models"], strict=True):
        if model.routing:
            written["routing"]["load_entropy"] = model.routing.load_entropy
            for layer, row in zip(model.routing.layers, written["routing"]["layers"], strict=True):
                row["load_entropy"] = layer.load_entropy
    return document
