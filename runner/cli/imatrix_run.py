"""The steps of one run of `franken-gguf imatrix`: a model that runs, a text, the sums, a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.tensor_types.imatrix_file import ImatrixSums
from franken_gguf.quantize.tensor_types.second_moments import write_second_moments
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.engine.temporary_gguf import converted
from franken_gguf.runner.imatrix import calibrate as calibration
from franken_gguf.runner.imatrix.chunks import Chunk
from franken_gguf.runner.imatrix.collect import Collector
from franken_gguf.runner.imatrix.input_moments import InputMoments
from franken_gguf.runner.imatrix.partial import Partial
from franken_gguf.runner.imatrix.texts import BUILT_IN, Render, built_in_text, plainly
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template
from franken_gguf.runner.ui import imatrix_screen
from franken_gguf.runner.ui.convert_screen import say

from .router_prep import route


@contextmanager
def runnable(
    source: Path, folder: Path, base_type: Preset, threads: int | None, notices: Console
) -> Iterator[Header]:
    """The header of a GGUF file of the source, for a folder or a recipe a temporary one."""
    if source.is_file() and source.suffix.lower() not in (".yml", ".yaml"):
        yield read_header(source)
        return
    model = open_source(source)
    route(model, folder, notices, base_type=base_type, threads=threads)
    say(notices, f"converting {source} to {base_type.name} in a temporary file")
    with converted(model, folder, base_type, threads or cores()) as header:
        yield header


def own_text(header: Header, chat_template: bool) -> calibration.Text:
    """The built-in text; with `chat_template` its dialogues are rendered by the model's."""
    if not chat_template:
        return calibration.Text(BUILT_IN, built_in_text(plainly))
    with Template(stored_template(header), special_tokens(header)) as template:
        render: Render = partial(template.render, add_generation_prompt=False)
        return calibration.Text(BUILT_IN, built_in_text(render), parses_special=True)


def calibrated(
    collector: Collector,
    chunks: Sequence[Chunk],
    settings: calibration.Settings,
    out: Path,
    notices: Console,
) -> Partial:
    """The sums over `chunks`, with progress; KeyboardInterrupt tells how to resume."""
    with imatrix_screen.progress(notices, len(chunks), settings) as report:
        try:
            return calibration.calibrate(collector, chunks, settings, out, report)
        except KeyboardInterrupt as interrupt:
            interrupt.args = ("Interrupted; run the same command to resume.",)
            raise


def write_moments(path: Path, moments: InputMoments, content: ImatrixSums) -> None:
    """Write the second moments of the chunks that `content` is of. Raises OutputError."""
    write_second_moments(
        path,
        moments.weights,
        chunks=content.chunks,
        chunk_size=content.chunk_size,
        datasets=content.datasets,
    )
