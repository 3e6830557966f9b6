"""What a comparison found, as one document: its JSON is `dataclasses.asdict` of it. Pure.

Equal runs give equal documents but for what stands under `Machine`. Logarithms are natural.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .metrics import Estimate, Interval, LayerRouting

FORMAT = 1
FEWEST_PARAPHRASES = 5


@dataclass(frozen=True)
class Settings:
    """What was asked of every model."""

    samples: int
    """Answers that are drawn for each prompt."""
    temperature: float
    seed: int
    """Of the first sampled answer; the next ones count up."""
    max_tokens: int
    threads: int
    text: str
    """Name of the scored text, "" for none."""
    chunks: int
    """Chunks of the text that were scored, of `chunk_tokens` tokens each."""
    chunk_tokens: int


@dataclass(frozen=True)
class Prompt:
    """A question, and what its answers are measured for."""

    name: str
    text: str
    """The wording that the greedy answers answer."""
    wordings: int
    """Paraphrases, each in all orders of its options."""
    labels: tuple[str, ...]
    """Names of the two answer sets, whose lean is above 0 towards the first; or none."""
    measure: str
    """"lean", "variety" or "haiku"."""


@dataclass(frozen=True)
class Lean:
    """Log-odds of the first answer set against the second over all wordings."""

    raw: Interval
    """From the sums of the answers' probabilities. Bootstrap over paraphrases."""
    per_token: Interval
    """From the means of their probabilities per token."""
    order_effect: float
    """Mean of `raw` with the first option named first, less that of the other order."""
    paraphrases: tuple[float, ...]
    """`raw` of each paraphrase, the mean over both orders."""
    difference: Interval | None = None
    """`raw` less the baseline's, paired by paraphrase; None for the baseline."""
    per_token_difference: Interval | None = None
    noise: float = 0.0
    """What arithmetic alone moves `raw` of a paraphrase by: the baseline in other batches."""

    @property
    def moved(self) -> int:
        """Which way the lean is from the baseline's, 1 or -1; 0 where that cannot be told.

        It can where the interval of the difference excludes 0, the difference is more than noise,
        and there are enough paraphrases for an interval to mean anything.
        """
        if self.difference is None or len(self.paraphrases) < FEWEST_PARAPHRASES:
            return 0
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        told = low * high > 0 and abs(value) > self.noise
        return (1 if value > 0 else -1) if told else 0


@dataclass(frozen=True)
class SampledAnswer:
    """An answer drawn at a temperature, and what its model says when it must choose."""

    seed: int
    text: str
    choice: int | None = None
    """Index into `Prompt.labels`; None where the prompt has none."""


@dataclass(frozen=True)
class Choices:
    """How many sampled answers come down to the first label, by their model's forced choice."""

    first: int
    share: Interval
    """Wilson's interval."""


@dataclass(frozen=True)
class FirstDifference:
    """Where a greedy answer leaves the baseline's."""

    token: int
    """Number of tokens that both begin with."""
    character: int
    """Number of characters of the answer before the token."""
    own: str
    """The token here; "" where the answer ends."""
    baseline: str
    """The baseline's token at the place."""
    own_probability: tuple[float, float]
    """Of the token here: this model's, the baseline's."""
    baseline_probability: tuple[float, float]
    """Of the baseline's token: this model's, the baseline's."""


@dataclass(frozen=True)
class GreedyAnswer:
    """The likeliest token each time."""

    text: str
    tokens: int
    is_cut: bool
    """It ran into the limit of tokens."""
    difference: FirstDifference | None = None
    """None for the baseline, and where the answer is the same."""


@dataclass(frozen=True)
class Variety:
    """Of sampled answers, by words in lower case. Li et al. 2016 for distinct-n."""

    words: int
    distinct_1: float
    distinct_2: float
    distinct_3: float
    repetition: float
    """Share of 4-grams of words that stood in the same answer before."""
    vocabulary: float
    """Different words among 1,000, by the mean over windows of at most so many."""


@dataclass(frozen=True)
class Haiku:
    """Sampled answers held against 5-7-5."""

    syllables: tuple[tuple[int, ...], ...]
    """Of each answer, syllables of each line."""
    valid: Interval
    """Share of answers that are 5-7-5. Wilson's interval."""


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
    """Given tokens, scored; as llama-perplexity defines it. The baseline has no differences."""

    tokens: int
    ppl: Estimate
    ln_ratio: Estimate | None = None
    """ln of the ratio of perplexities."""
    correlation: float | None = None
    kld: Estimate | None = None
    kld_percentiles: dict[str, float] = field(default_factory=dict)
    dp: Estimate | None = None
    """Probability of the true token less the baseline's; 1 is certainty."""
    dp_rms: float | None = None
    same_top: Interval | None = None


@dataclass(frozen=True)
class Routing:
    """Which experts the tokens went to, over the scored positions of answers and text.

    What compares is None for the baseline, and where the baseline has no such routers.
    """

    tokens: int
    layers: tuple[LayerRouting, ...]
    same_experts: float | None = None
    """Share of (token, layer) with the same experts as the baseline's."""
    jaccard: float | None = None
    kld: float | None = None
    """Mean KL divergence of router probabilities from the baseline's."""
    drift: tuple[int, ...] = ()
    """The layers that differ most by `kld`, worst first."""


@dataclass(frozen=True)
class Machine:
    """What the clock and the machine said: the part that differs from run to run."""

    load_seconds: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_memory: int
    """Bytes resident in the model's process at most."""


@dataclass(frozen=True)
class ModelResult:
    """All that was measured of one model."""

    name: str
    """Short and unique: the type, or the file's name."""
    file: str
    nbytes: int
    bits_per_weight: float
    experts: int
    """0 for a dense model."""
    experts_used: int
    prompts: tuple[PromptResult | None, ...] = ()
    """In the order of `Comparison.prompts`; None for what could not be measured."""
    answers: TextScore | None = None
    """The baseline's greedy answers, all prompts together."""
    text: TextScore | None = None
    routing: Routing | None = None
    """None for a dense model."""
    machine: Machine | None = None
    error: str = ""
    """Why it could not be measured; all that could is there."""


@dataclass(frozen=True)
class Comparison:
    """A whole comparison. `models` are in order of bits per weight, most first."""

    settings: Settings
    prompts: tuple[Prompt, ...]
    baseline: str
    """The name of a model."""
    models: tuple[ModelResult, ...]
    conclusion: str = ""
    version: str = ""
    format: int = FORMAT


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The document that --json prints."""
    return asdict(comparison)
