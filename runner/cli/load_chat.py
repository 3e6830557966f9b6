"""A chat loaded as the command line's arguments say, for the verbs that answer."""

from __future__ import annotations

import threading

from franken_gguf.runner.api import load
from franken_gguf.runner.chat.chat import Chat
from franken_gguf.runner.cli.options.chat_arguments import ModelArguments
from franken_gguf.runner.engine.engine import LoadOptions
from franken_gguf.runner.engine.interrupt import ctrl_c_sets
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.planning.placement import Machine
from franken_gguf.runner.sampling.sampling_presets import preset
from franken_gguf.runner.ui.chat_screen import Screen


def machine_for(arguments: ModelArguments, screen: Screen) -> Machine:
    """The machine to plan for: this one, with the GPU memory that was given."""
    machine = this_machine(arguments.rpc, screen.notice)
    return machine if arguments.vram is None else with_vram(machine, arguments.vram)


def load_chat(
    arguments: ModelArguments, machine: Machine, screen: Screen, stop: threading.Event
) -> Chat:
    """The loaded chat; the screen shows progress and notices. Raises FrankenError."""
    options = LoadOptions(**vars(arguments.placement), n_threads=arguments.n_threads)
    sampling = arguments.sampling
    with ctrl_c_sets(stop), screen.loading(arguments.header.path.name) as show_progress:
        chat = load(
            arguments.header,
            options,
            machine=machine,
            sampling=sampling.settings,
            preset=preset(sampling.preset) if sampling.preset else None,
            bans=sampling.bans,
            max_tokens=arguments.max_tokens,
            summarize=arguments.summarize,
            experts=arguments.experts,
            stop=stop,
            on_progress=show_progress,
            on_notice=screen.notice,
        )
    chat.expert_names = arguments.expert_names
    return chat
