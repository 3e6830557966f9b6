"""A model file to talk with, in one call: what programs import, and what the command line uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.planning.placement import Machine
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import sampling_for


def load(
    model: str | PathLike[str] | Header,
    options: LoadOptions | None = None,
    *,
    system: str = "",
    sampling: Mapping[str, Any] | None = None,
    preset: Mapping[str, Any] | None = None,
    bans: Sequence[str] = (),
    max_tokens: int | None = None,
    summarize: bool = False,
    experts: bool = False,
    machine: Machine | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Chat:
    """A chat with the GGUF file `model`, ready for its first question; close it at the end.

    `sampling` overrides the model file's settings and llama.cpp's defaults, by the names of
    `Sampling`; `preset` applies where `sampling` has no value. No answer contains one of `bans`
    (ban_list.py). `experts` records routing, which costs a tenth of the speed. The model is placed
    by the plan for `machine`, this one if None; `on_notice` gets a line for each option that could
    not be followed. `stop`, once set, ends loading and evaluation (then KeyboardInterrupt is
    raised). Raises GGUFError, PlanError, EngineError, SamplingError, BanError.
    """
    header = model if isinstance(model, Header) else read_header(Path(model))
    settings = sampling_for(header.metadata, sampling or {}, preset or {})
    banned = Banned(bans)
    template = Template(stored_template(header), special_tokens(header))
    try:
        engine = Engine(
            header,
            options or LoadOptions(),
            machine=machine,
            stop=stop,
            on_progress=on_progress,
            on_notice=on_notice,
            probe=RouterProbe() if experts else None,
        )
    except BaseException:
        template.close()
        raise
    chat = Chat(
        engine, template, settings, system=system, max_tokens=max_tokens, summarize=summarize
    )
    chat.banned = banned
    try:
        engine.check(settings)
    except BaseException:
        chat.close()
        raise
    return chat
