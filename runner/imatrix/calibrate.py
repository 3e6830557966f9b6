"""Makes an importance matrix: texts to chunks, chunks to sums, resumed where the last run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from franken_gguf.quantize.common.errors import ImatrixError, OutputError
from franken_gguf.quantize.output.output_names import lock_of, part_of
from franken_gguf.quantize.tensor_types.imatrix_file import ImatrixSums, WeightSums
from franken_gguf.runner.engine.vocabulary import Vocabulary

from .chunks import Chunk, cut, interleaved, split_off
from .collect import Collector
from .expert_shares import expert_shares
from .partial import Partial, content_key

DEFAULT_CHUNK_SIZE = 512
DEFAULT_HOLD_OUT = 10
DEFAULT_FLOOR = 8192


@dataclass(frozen=True)
class Text:
    """A text to calibrate on."""

    name: str
    content: str
    parses_special: bool = False
    """Whether the names of special tokens in it become these tokens."""


@dataclass(frozen=True)
class Settings:
    """What the sums depend on besides the model and the texts, and when to stop."""

    chunk_size: int = DEFAULT_CHUNK_SIZE
    chunks: int | None = None
    """Chunks to evaluate; None: until every expert has had `floor` tokens, or all."""
    floor: int = DEFAULT_FLOOR
    hold_out: int = DEFAULT_HOLD_OUT
    """Every such chunk is held out to judge quants on; 0: none."""
    with_output: bool = False
    all_experts: bool = False

    def is_enough(self, weights: dict[str, WeightSums]) -> bool:
        """Whether every expert has had its floor, and the number of chunks is left to that."""
        layers = expert_shares(weights)
        if self.chunks is not None or self.all_experts or not layers:
            return False
        return all(layer.counts.min() >= self.floor for layer in layers)


def text_chunks(
    texts: Sequence[Text], vocabulary: Vocabulary, settings: Settings
) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks to calibrate on, several texts in turn, and the chunks held out of them.

    Raises ImatrixError if a text is shorter than a chunk.
    """
    size, bos = settings.chunk_size, vocabulary.bos
    cut_texts = []
    for text in texts:
        tokens = vocabulary.tokenize(text.content, parse_special=text.parses_special)
        tokens = tokens if bos is None else [bos, *tokens]
        chunks = cut(tokens, size, bos)
        if not chunks:
            raise ImatrixError(
                f"{text.name}: is {len(tokens)} tokens long, a chunk {size}; give a longer text, "
                "or a smaller -c"
            )
        cut_texts.append(chunks)
    kept, held = split_off(interleaved(cut_texts), settings.hold_out)
    if not kept:
        raise ImatrixError("--hold-out 1 leaves nothing to calibrate on; give 2 or more, or 0")
    return kept[: settings.chunks], held


def calibrate(
    collector: Collector,
    chunks: Sequence[Chunk],
    settings: Settings,
    out: Path,
    report: Callable[[Partial], None] = lambda _: None,
) -> Partial:
    """The sums over `chunks`, or as many of them as are enough.

    What an earlier run left beside `out` is resumed. `report` is called with what is done, at first
    and after every chunk. Whatever ends this early, what is done is kept; second moments, to which
    part of a chunk may have been added, as they were last saved. Raises EngineError, OutputError.
    """
    moments = collector.moments
    key = content_key(
        collector.engine.header, settings.with_output, settings.all_experts, moments is not None
    )
    partial = Partial(part_of(out), key, chunks, moments)
    report(partial)
    try:
        for chunk in chunks[partial.done :]:
            if settings.is_enough(partial.weights):
                break
            partial.add(collector.chunk_sums(chunk))
            report(partial)
    except BaseException:
        if moments is None:
            partial.save()
        raise
    return partial


def finished(partial: Partial, texts: Sequence[Text], settings: Settings) -> ImatrixSums:
    """The contents of the file."""
    names = tuple(text.name for text in texts)
    return ImatrixSums(partial.weights, partial.done, settings.chunk_size, names)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep others from making the same output at once. Raises OutputError."""
    path = lock_of(out)
    lock = FileLock(path, timeout=0)
    try:
        try:
            lock.acquire()
        except Timeout:
            path.touch()  # where no file can be created, filelock can raise Timeout; this: OSError
            raise OutputError(
                f"{out}: another imatrix is writing it; wait for it, or choose another name with -o"
            ) from None
    except OSError as error:
        raise OutputError(
            f"{out.parent}: cannot be written to ({error.strerror}); choose another with -o"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()
