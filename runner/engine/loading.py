"""Loads a model by its plan, or by a smaller one if a device runs out of memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.gguf_file.split_files import joined
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.planning.memory_use import CPU, KV_TYPES, N_BATCH
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import Machine, Override, PlacementOptions, Plan
from franken_gguf.runner.planning.planner import smaller_plans
from franken_gguf.runner.planning.rope import Rope
from franken_gguf.runner.terminal.text import size

from .backend import AllocationError, Buffer, EngineError, loaded_model, log
from .ggml import device_array, override_array
from .interrupt import Stopped
from .probe import Probe
from .this_machine import this_machine
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class LoadOptions(PlacementOptions):
    """How to load a model: its placement, and the number of threads."""

    n_threads: int | None = None
    """None: one for each physical core that this process may use."""
    n_sequences: int = 1
    """Sequences that can be evaluated side by side; they share the context's memory."""


DEFAULTS = LoadOptions()
_ROPE_SCALING_TYPES = {
    "none": lib.LLAMA_ROPE_SCALING_TYPE_NONE,
    "linear": lib.LLAMA_ROPE_SCALING_TYPE_LINEAR,
    "yarn": lib.LLAMA_ROPE_SCALING_TYPE_YARN,
}
# Any override turns off llama.cpp's pipeline over GPUs, which keeps four copies of each input to
# work on several batches at once; a chat has one batch at a time. This pattern matches no tensor.
_NO_PIPELINE = (Override("^$", CPU),)


@dataclass(frozen=True)
class Loaded:
    """A loaded model with its context."""

    plan: Plan
    """The plan that was followed."""
    buffers: tuple[Buffer, ...]
    """The memory that llama.cpp allocated."""
    vocabulary: Vocabulary
    context: Any
    """The llama_context."""
    params: Any
    """The llama_context_params that it was created with."""


@contextmanager
def load(
    header: Header,
    options: LoadOptions,
    machine: Machine | None,
    is_stopped: Callable[[], bool],
    on_progress: Callable[[float], None],
    on_notice: Callable[[str], None],
    probe: Probe | None = None,
) -> Iterator[Loaded]:
    """A model loaded by the plan for `machine` (this one if None), freed at the end.

    If a device has less memory than it reported, the next smaller plan is tried and `on_notice` is
    called. `probe` captures what the context computes. Raises EngineError, PlanError, or Stopped
    once `is_stopped` returns True.
    """
    machine = machine or this_machine(on_notice=on_notice)
    plans = smaller_plans(model_shape(joined(header)), machine, options)
    plan = next(plans)
    _check_ram(header, plan)
    for note in (*plan.notes, *_shortages(plan)):
        on_notice(note)
    while True:
        try:
            with ExitStack() as resources:
                model = resources.enter_context(_model(header, plan, is_stopped, on_progress))
                vocabulary = Vocabulary(header, model)
                params = context_params(plan, options.n_threads or default_threads())
                if options.n_sequences > 1 and _has_cells(model):
                    params.n_seq_max, params.kv_unified = options.n_sequences, True
                if probe:
                    params.cb_eval = probe.callback
                context = _context(header, model, plan, params)
                resources.callback(lib.llama_free, context)
                loaded = resources.pop_all()
            break
        except AllocationError as error:
            smaller = next(plans, None)
            if smaller is None or not smaller.fits:
                raise
            on_notice(f"{error}; trying {' '.join(smaller.flags)}")
            plan = smaller
    with loaded:
        if plan.devices:
            on_notice(plan.summary())
        yield Loaded(plan, tuple(log.buffers), vocabulary, context, params)


@contextmanager
def _model(
    header: Header,
    plan: Plan,
    is_stopped: Callable[[], bool],
    on_progress: Callable[[float], None],
) -> Iterator[Any]:
    def progress(part: float, _: object) -> bool:
        on_progress(part)
        return not is_stopped()

    params = lib.llama_model_default_params()
    params.n_gpu_layers = plan.n_gpu_layers
    params.use_extra_bufts = plan.repack
    if not plan.mmap:
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    params.progress_callback = lib.llama_progress_callback(progress)
    # Keep these arrays alive: llama.cpp reads them while it loads.
    devices = device_array(plan.devices)
    several = len(plan.devices) > 1
    overrides = override_array(plan.overrides or (_NO_PIPELINE if several else ()))
    split = (ctypes.c_float * lib.llama_max_devices())(*plan.tensor_split)
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    params.tensor_split = split
    kv_overrides = _kv_overrides(header, plan)
    params.kv_overrides = kv_overrides
    try:
        with loaded_model(header, params) as model:
            _check_kind(header, model)
            yield model
    except EngineError:
        if is_stopped():
            raise Stopped from None
        raise


def _kv_overrides(header: Header, plan: Plan) -> Any:
    """For llama_model_params.kv_overrides, ended by an empty key. Keep it alive while loading."""
    overrides: Any = (lib.llama_model_kv_override * 2)()
    if plan.experts_used is not None:
        key = f"{header.text('general.architecture')}.expert_used_count"
        overrides[0].tag = lib.LLAMA_KV_OVERRIDE_TYPE_INT
        overrides[0].key = key.encode()
        overrides[0].value.val_i64 = plan.experts_used
    return overrides


def _has_cells(model: Any) -> bool:
    """Whether its memory has a cell for each token, so that sequences can share some of them."""
    return not lib.llama_model_is_recurrent(model) and not lib.llama_model_is_hybrid(model)


def _check_kind(header: Header, model: Any) -> None:
    if (
        lib.llama_model_has_encoder(model)
        or not lib.llama_model_has_decoder(model)
        or lib.llama_model_is_diffusion(model)
    ):
        raise EngineError(
            f"{header.path}: architecture {header.text('general.architecture')!r} "
            "does not generate text token by token; use a decoder model"
        )


def context_params(plan: Plan, n_threads: int) -> Any:
    """The llama_context_params for `plan`."""
    params = lib.llama_context_default_params()
    params.n_ctx = plan.cache.n_ctx
    params.n_batch = params.n_ubatch = N_BATCH
    params.n_outputs_max = plan.cache.n_outputs
    params.type_k = KV_TYPES[plan.cache.type_k]
    params.type_v = KV_TYPES[plan.cache.type_v]
    if not plan.cache.flash_attention:
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.n_threads = params.n_threads_batch = n_threads
    _set_rope(params, plan.cache.rope)
    return params


def _set_rope(params: Any, rope: Rope) -> None:
    for name, value in vars(rope).items():
        if value is None:
            continue
        if name == "rope_scaling":
            params.rope_scaling_type = _ROPE_SCALING_TYPES[value]
        elif name == "rope_scale":
            params.rope_freq_scale = 1 / value
        else:
            setattr(params, name, value)


def _context(header: Header, model: Any, plan: Plan, params: Any) -> Any:
    log.clear()
    context = lib.llama_init_from_model(model, params)
    if not context:
        kind = AllocationError if log.is_out_of_memory() else EngineError
        raise kind(
            f"{header.path}: llama.cpp cannot create a context of {plan.cache.n_ctx} tokens: "
            f"{log.reason()}; give a smaller -c"
        )
    return context


def _check_ram(header: Header, plan: Plan) -> None:
    if CPU not in plan.short:
        return
    needed, spare, free = plan.total_ram, plan.headroom[CPU], plan.available[CPU]
    raise EngineError(
        f"{header.path}: needs {size(needed)} of RAM with a context of {plan.cache.n_ctx} tokens; "
        f"{size(free)} is free, of which {size(spare)} is headroom; {'; '.join(plan.advice)}"
    )


def _shortages(plan: Plan) -> Iterator[str]:
    for name, missing in plan.short.items():
        yield f"{name} may lack {size(missing)}: {'; '.join(plan.advice)}"
