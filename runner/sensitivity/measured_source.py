"""A source's measurements: those stored beside it, or made now by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import file_stamp
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.worker_memory import DEFAULT_MAX_MEMORY, Share, share_memory
from franken_gguf.quantize.target_size.measurements import (
    FOLDER,
    Measurements,
    delete_oldest,
    gains_key,
    load,
    measurements_key,
    save,
)
from franken_gguf.quantize.target_size.type_menus import can_choose
from franken_gguf.quantize.tensor_types.second_moments import SecondMoments
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.common.hardware import available_memory
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.temporary_gguf import temporary_gguf

from .degrading import DegradedModel
from .measure import (
    PASSAGE_TOKENS,
    is_complete,
    loaded,
    measure_divergences,
    measure_errors,
    measure_gains,
    passages,
)

Report = Callable[[str], None]
_RAM_SHARE = 0.8
_UNQUANTIZED = ("F32", "F16", "BF16")


def measurements(
    source: Source,
    path: Path,
    importances: Mapping[str, F32],
    texts: tuple[str, ...],
    *,
    threads: int,
    second_moments: SecondMoments | None = None,
    report: Report = lambda _: None,
) -> Measurements:
    """All that is needed to choose types for the source at `path`; `report` gets a line at times.

    With `second_moments` also what choosing codes under them gains. Raises FrankenError. What was
    measured before an error or an interruption is kept.
    """
    folder = _folder(path)
    key = measurements_key(source, importances, "\0".join(texts).encode())
    file = folder / f"{key}.json"
    with locked(folder / f"{key}.lock", report):
        measured = load(file)
        if second_moments:
            share = share_memory(source.tensors, threads, DEFAULT_MAX_MEMORY, refining=True)
            stored = folder / f"{gains_key(key, file_stamp(second_moments.path))}.json"
            _add_gains(source, importances, second_moments, measured, stored, share, report)
        if is_complete(source, importances, measured):
            with suppress(OSError):
                file.touch()
            return measured
        share = share_memory(source.tensors, threads, DEFAULT_MAX_MEMORY)
        try:
            measure_errors(
                source, importances, measured, share, _percent(report, "measuring types")
            )
            with _running(source, path, folder, share, report) as header:
                _run(header, source, importances, texts, measured, file, share, report)
        except BaseException:
            with suppress(OutputError):
                save(file, measured)
            raise
        delete_oldest(folder)
        return measured


def _add_gains(
    source: Source,
    importances: Mapping[str, F32],
    second_moments: SecondMoments,
    measured: Measurements,
    file: Path,
    share: Share,
    report: Report,
) -> None:
    """Those stored in `file`, or measured now and stored there."""
    measured.gains = load(file).errors
    known = len(measured.gains)
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    moments = second_moments.for_tensors(shapes)
    progress = _percent(report, "measuring chosen codes")
    try:
        measure_gains(source, importances, moments, measured, share, progress)
    finally:
        if len(measured.gains) > known:
            save(file, Measurements(errors=measured.gains))


def _run(
    header: Header,
    source: Source,
    importances: Mapping[str, F32],
    texts: tuple[str, ...],
    measured: Measurements,
    file: Path,
    share: Share,
    report: Report,
) -> None:
    engine, weights = loaded(header, LoadOptions(n_threads=share.workers))
    with engine:
        some = passages(engine, texts)
        if min(map(len, some)) < PASSAGE_TOKENS:
            raise EngineError(
                f"--target-text: a third of it has {min(map(len, some))} tokens, but "
                f"{PASSAGE_TOKENS} are needed; give a longer text"
            )
        stored = {tensor.name: tensor.type for tensor in header.tensors}
        measure_divergences(
            DegradedModel(engine, weights, some),
            source,
            importances,
            stored,
            measured,
            file,
            share,
            _percent(report, "measuring tensors"),
        )


@contextmanager
def _running(
    source: Source, path: Path, folder: Path, share: Share, report: Report
) -> Iterator[Header]:
    """A GGUF file to run: the source itself, or one made of it for the time being.

    In F16 if the RAM has room for that, else in Q8_0.
    """
    kinds = {tensor.stored.name for tensor in source.tensors if can_choose(tensor)}
    if source.is_gguf and kinds <= set(_UNQUANTIZED):
        yield read_header(path)
        return
    with temporary_gguf(folder) as file:
        output = plan_output(source, file, find_preset("F16"), allow_requantize=True)
        if output.nbytes > _RAM_SHARE * available_memory():
            output = plan_output(source, file, find_preset("Q8_0"), allow_requantize=True)
        report(f"writing a temporary {output.preset.name} file to measure")
        convert(source, [output], threads=share.workers)
        yield read_header(file)


def _folder(path: Path) -> Path:
    """Beside the model, or in the user's cache if that cannot be written to."""
    for folder in (
        path.absolute().parent / FOLDER,
        user_cache_path("franken-gguf", False) / FOLDER,
    ):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
            return folder
    raise OutputError(
        f"{path.parent}: neither this folder nor the cache folder can be written to; change the "
        "permissions of one"
    )


@contextmanager
def locked(path: Path, report: Report) -> Iterator[None]:
    """Hold the lock `path`, once a run that holds it has ended; `report` gets a line about that."""
    try:
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout:
        report("another run is measuring this model; waiting for it")
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _percent(report: Report, task: str) -> Callable[[float], None]:
    return lambda share: report(f"{task}: {100 * share:.0f} %")
