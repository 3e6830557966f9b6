"""A running mixture whose weights are replaced cell by cell, and what is measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.type_presets import Type
from franken_gguf.runner.compare.assemble import haiku, variety
from franken_gguf.runner.compare.measure.captured_routing import CapturedRouting, routing_by_layer
from franken_gguf.runner.compare.measure.loaded_model import LoadedModel
from franken_gguf.runner.compare.measure.measure_prompt import (
    one_answer,
    sampled_answers,
    wording_leans,
)
from franken_gguf.runner.compare.measure.questions import HAIKU, Question, question, read_question
from franken_gguf.runner.compare.measure.side_by_side import side_by_side
from franken_gguf.runner.compare.measure.tasks import Task, prepare
from franken_gguf.runner.compare.measure.workspace import Workspace
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.compare.results.metrics import kl_divergence, log_softmax
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.model_weights import ModelWeights
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template
from franken_gguf.runner.sampling.settings import Sampling
from lean_study.cells import BATCH, CONTROLS, OTHERS, PLAIN, QUESTION, Cell
from lean_study.rounding import Weights

F32 = NDArray[np.float32]

_HERE = Path(__file__).resolve().parent
_QUESTIONS = _HERE / "questions"
_PASSAGES = (_HERE / "passages.txt").read_text(encoding="utf-8").split("\n\n")
_PASSAGE_TOKENS, _UNSCORED = 80, 4
SETTINGS = Settings(
    samples=0, temperature=0.8, seed=0, max_tokens=40, threads=1, text="", chunks=0, chunk_tokens=0
)
_DIGITS = 4


def questions() -> list[Question]:
    """The question of the study, its controls, and the prompts whose words are measured."""
    names = (QUESTION, *CONTROLS, *OTHERS)
    own = {path.stem: path for path in _QUESTIONS.glob("*.yml")}
    return [read_question(own[name]) if name in own else question(name) for name in names]


_Evaluated = tuple[list[F32], CapturedRouting]
"""Log-probabilities of each passage, (positions, vocabulary), and the routing."""


class _Probe(RouterProbe):
    """Captures routers, and notes where the weights are."""

    def __init__(self, weights: ModelWeights) -> None:
        super().__init__()
        self._weights = weights

    def wants(self, tensor: int) -> bool:
        """See Probe.wants."""
        self._weights.wants(tensor)
        return super().wants(tensor)


class Running:
    """A mixture's file, loaded; `base` is the unquantized one, None for that itself."""

    def __init__(self, path: Path, work: Path, base: Running | None = None) -> None:
        header = read_header(path)
        self._memory = ModelWeights()
        self._probe = _Probe(self._memory)
        tasks = prepare(header, questions(), "", SETTINGS)
        options = LoadOptions(n_threads=SETTINGS.threads, n_outputs=256, mmap=False, repack=False)
        options = side_by_side(options, header, tasks, SETTINGS)
        with ExitStack() as resources:
            engine = resources.enter_context(Engine(header, options, probe=self._probe))
            template = resources.enter_context(
                Template(stored_template(header), special_tokens(header))
            )
            self._resources = resources.pop_all()
        self._model = LoadedModel(
            engine, template, SETTINGS, Workspace(work), self._probe, is_baseline=False
        )
        self._tasks: dict[str, Task] = {task.question.name: task for task in tasks.prompts}
        self._types: dict[str, tuple[Type, bool]] = {}
        self._passages = [engine.vocabulary.prompt(text)[:_PASSAGE_TOKENS] for text in _PASSAGES]
        self._base: _Evaluated = base._base if base else self._evaluated()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def become(self, cell: Cell, weights: Weights) -> None:
        """Replace the weights by those of the cell."""
        plain = cell.variant == PLAIN
        wanted = {name: (kind, plain) for name, kind in weights.types(cell).items()}
        restored = {name for name in self._types if name not in wanted}
        changed = {n: kind for n, (kind, _) in wanted.items() if self._types.get(n) != wanted[n]}
        self._write(weights.unrounded(restored))
        self._write(weights.rounded(changed, plain))
        self._types = wanted

    def _write(self, tensors: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
        for name, data in tensors:
            self._memory.write(name, np.ascontiguousarray(data))

    def text(self) -> dict[str, Any]:
        """KL divergence and routing against the unquantized model over the passages."""
        base_log_probs, base_routing = self._base
        log_probs, routing = self._evaluated()
        pairs = list(zip(base_log_probs, log_probs, strict=True))
        layers = routing_by_layer(routing, base_routing)
        return {
            "kld": [_rounded(float(kl_divergence(*pair).mean()), 6) for pair in pairs],
            "same_top": [
                _rounded(float((one.argmax(1) == other.argmax(1)).mean())) for one, other in pairs
            ],
            "same_experts": [_rounded(layer.same_experts or 0.0) for layer in layers],
            "jaccard": [_rounded(layer.jaccard or 0.0) for layer in layers],
        }

    def _evaluated(self) -> _Evaluated:
        engine, routing, log_probs = self._model.engine, CapturedRouting(), []
        engine.clear()
        for passage in self._passages:
            engine.forget_from(0)
            log_probs.append(log_softmax(engine.logits(passage, _UNSCORED).copy()))
            rows = len(passage) - _UNSCORED
            routing.add(self._probe, rows, rows)
        return log_probs, routing

    def leans(self) -> dict[str, Any]:
        """By question, the lean of each wording in each order; and the greedy answer."""
        return dict(self._leans())

    def _leans(self) -> Iterator[tuple[str, Any]]:
        for name in (QUESTION, *CONTROLS):
            found = wording_leans(self._model, self._tasks[name])
            yield (
                name,
                {
                    "raw": [[_rounded(one.raw) for one in orders] for orders in found],
                    "per_token": [[_rounded(one.per_token) for one in orders] for orders in found],
                },
            )
        self._model.engine.clear()
        prompt = self._tasks[QUESTION].prompt
        text, _, _ = one_answer(self._model, prompt, Sampling(temperature=0))
        yield "greedy", text

    def samples(self, name: str, batch: int) -> dict[str, Any]:
        """BATCH sampled answers: the forced choice of each, or figures of their words."""
        task = self._tasks[name]
        numbers = range(batch * BATCH, (batch + 1) * BATCH)
        answers = sampled_answers(self._model, task, numbers)
        texts = [text for _, text, _ in answers]
        found: dict[str, Any] = {
            "first_answer": texts[0],
            "words": sum(len(text.split()) for text in texts),
        }
        if task.answers:
            return found | {"leans": [_rounded(lean) for _, _, lean in answers]}
        words = variety(texts)
        found |= {
            "distinct_2": _rounded(words.distinct_2),
            "repetition": _rounded(words.repetition),
            "vocabulary": _rounded(words.vocabulary, 1),
        }
        if task.question.measure == HAIKU:
            found["haiku"] = round(haiku(texts).valid.value * len(texts))
        return found


def _rounded(value: float, digits: int = _DIGITS) -> float:
    return round(float(value), digits)
