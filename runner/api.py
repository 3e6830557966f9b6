"""A model file to talk with, in one call: what programs import, and what the command line uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from franken_gguf.quantize.gguf_header import Header, read_header

from .chat import Chat
from .engine import Engine, LoadOptions
from .placement import Machine
from .prompt import Template, special_tokens, stored_template
from .sampling import sampling_for


def load(
    model: str | PathLike[str] | Header,
    options: LoadOptions | None = None,
    *,
    system: str = "",
    sampling: Mapping[str, float | None] | None = None,
    max_tokens: int | None = None,
    summarize: bool = False,
    machine: Machine | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Chat:
    """A chat with the GGUF file `model`, ready for its first question; close it at the end.

    `sampling` holds the settings that shall not be the file's own or llama.cpp's default, by the
    names of `Sampling`. The model goes where the plan for `machine`, this one if None, puts it;
    `on_notice` is told what of the options could not be. `stop`, once set, ends what the engine
    does, also the load (then KeyboardInterrupt is raised). Raises GGUFError, PlanError,
    EngineError, SamplingError.
    """
    header = model if isinstance(model, Header) else read_header(Path(model))
    settings = sampling_for(header.metadata, sampling or {})
    template = Template(stored_template(header), special_tokens(header))
    try:
        engine = Engine(
            header,
            options or LoadOptions(),
            machine=machine,
            stop=stop,
            on_progress=on_progress,
            on_notice=on_notice,
        )
    except BaseException:
        template.close()
        raise
    return Chat(
        engine, template, settings, system=system, max_tokens=max_tokens, summarize=summarize
    )
