"""Plans which part of a model goes where. Pure: from its shape, the machine and the user's options.

Devices get the dense parts first, which work on every token: attention, the KV cache and the
output. Then the experts, a layer at a time, and of one more layer the projections that fit. The
experts left in RAM are those of the first layers, as with llama.cpp's --n-cpu-moe (its --fit fills
in the same order from the other end), or those of other layers if a CPU decodes them clearly
faster. If not even the dense parts fit, devices get fewer layers. What does not fit on one device
is split over all, each filled before the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from math import inf

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU

from .advice import advice
from .expert_order import experts_in_ram
from .memory_use import CPU, KV_TYPES, N_BATCH, Cache
from .model_shape import ModelShape
from .offload_candidates import DEVICE_HEADROOM, HEADROOM_SHARE, fitting
from .placement import DEFAULT_PLACEMENT, Machine, PlacementOptions, Plan, PlanError
from .rope import beyond_training, rope_for

DEFAULT_N_CTX = 4096
_MIN_N_CTX = 512
_MAX_N_CTX = (1 << 31) - 1
_MAX_OVERRIDES = 64
_UNQUANTIZED = ("f32", "f16", "bf16")
_MAX_SCORE_BYTES = 1 << 28
_GRIDS = ("IQ1_", "IQ2_", "IQ3_")
"""Types that llama.cpp does not repack."""


def plan(
    shape: ModelShape, machine: Machine, options: PlacementOptions = DEFAULT_PLACEMENT
) -> Plan:
    """The best plan that fits the machine; if none does, one with advice on what to change.

    One device is used alone if it has room, a local one rather than a remote one; otherwise the
    layers are split over all, in order. Raises PlanError for options that do not suit the model or
    the machine.
    """
    _check(shape, machine, options)
    if options.experts_used is not None:
        shape = replace(shape, n_expert_used=options.experts_used)
    caches = list(_caches(shape, machine, options))
    notes = tuple(_notes(shape, machine, options, caches[0]))
    for cache in caches:
        best = fitting(shape, machine, options, cache)
        if best.fits:
            notes = (*notes, *_reduced(caches[0], cache), *_idle(machine, best))
            notes = (*notes, *_slow_experts(shape, best))
            return replace(best, notes=notes)
    thrifty = replace(caches[0], flash_attention=options.flash_attention is not False)
    wished = fitting(shape, machine, options, thrifty)
    return replace(wished, notes=notes, advice=tuple(advice(shape, machine, options, wished)))


def smaller_plans(shape: ModelShape, machine: Machine, options: PlacementOptions) -> Iterator[Plan]:
    """The plan, then ever smaller ones for devices with less memory than they reported.

    Each uses at least an eighth less of every device that the previous one used; the last uses
    none. The user's options are kept, so fewer or no smaller plans may follow.
    """
    best = plan(shape, machine, options)
    yield best
    while any((taken := {name: best.total(name) for name in best.devices}).values()):
        devices = tuple(
            replace(device, free=_less(taken[device.name])) if device.name in taken else device
            for device in machine.devices
        )
        machine = replace(machine, devices=devices)
        best = plan(shape, machine, options)
        if any(best.total(name) > nbytes * 7 // 8 for name, nbytes in taken.items()):
            return
        yield best


def _less(taken: int) -> int:
    """Free memory of a device that has room for seven eighths of `taken` besides its headroom."""
    return taken * 7 // 8 + min(DEVICE_HEADROOM, taken // HEADROOM_SHARE)


def _check(shape: ModelShape, machine: Machine, options: PlacementOptions) -> None:
    _check_context(shape, options)
    for kind in filter(None, (options.type_k, options.type_v)):
        if kind not in KV_TYPES:
            raise PlanError(f"no KV cache type {kind!r}; there are {', '.join(KV_TYPES)}")
        if not _divides(shape, kind):
            raise PlanError(
                f"{shape.name}: heads of {shape.head_size} do not divide into blocks of {kind}; "
                "use f16"
            )
    if options.flash_attention is False and (options.type_v or "f16") not in _UNQUANTIZED:
        raise PlanError(f"values in {options.type_v} need flash attention; drop -fa off")
    if options.n_gpu_layers is not None and options.n_gpu_layers < -1:
        raise PlanError(
            f"-ngl {options.n_gpu_layers}: give a number of layers, -1 for all, or auto"
        )
    if options.n_cpu_moe is not None and options.n_cpu_moe < 0:
        raise PlanError(f"--n-cpu-moe {options.n_cpu_moe}: give a number of layers, or auto")
    _check_experts(shape, options.experts_used)
    _check_split(machine, options.tensor_split)
    known = [CPU, *(device.name for device in machine.devices)]
    if len(options.overrides) > _MAX_OVERRIDES:
        raise PlanError(
            f"-ot is given {len(options.overrides)} times; the limit is {_MAX_OVERRIDES}"
        )
    for override in options.overrides:
        try:
            re.compile(override.pattern)
        except re.error as error:
            raise PlanError(
                f"-ot {override.pattern}: not a valid regular expression: {error}"
            ) from None
        if override.device not in known:
            raise PlanError(
                f"-ot: no device {override.device!r} here; there are {', '.join(known)}"
            )


def _check_context(shape: ModelShape, options: PlacementOptions) -> None:
    n_ctx, trained = options.n_ctx or 0, shape.n_ctx_train
    if not 0 <= n_ctx <= _MAX_N_CTX:
        raise PlanError(f"-c {n_ctx}: give a number of tokens, or 0 for the model's {trained}")
    if n_ctx > trained and shape.has_learned_positions:
        raise PlanError(
            f"{shape.name}: has embeddings for {trained} positions, not {n_ctx}; "
            f"give -c {trained} or less"
        )
    if problem := options.problem():
        raise PlanError(problem)


def _check_experts(shape: ModelShape, used: int | None) -> None:
    if used is None:
        return
    if not shape.n_expert:
        raise PlanError(f"{shape.name}: has no experts; leave out --experts-used {used}")
    if not 0 < used <= shape.n_expert:
        raise PlanError(
            f"{shape.name}: has {shape.n_expert} experts; give --experts-used 1 to {shape.n_expert}"
        )


def _check_split(machine: Machine, shares: tuple[float, ...] | None) -> None:
    if shares is None:
        return
    text = ",".join(f"{share:g}" for share in shares)
    if not all(0 <= share < inf for share in shares) or not 0 < sum(shares) < inf:
        raise PlanError(f"-ts {text}: give a share for each device, such as 3,1; 0 means none")
    if len(shares) > len(machine.devices):
        names = ", ".join(device.name for device in machine.devices) or "none"
        raise PlanError(f"-ts {text}: more shares than devices; there are {names}")


def _divides(shape: ModelShape, kind: str) -> bool:
    block_len = GGML_QUANT_SIZES[KV_TYPES[kind]][0]
    return shape.head_size % block_len == 0


def _caches(shape: ModelShape, machine: Machine, options: PlacementOptions) -> Iterator[Cache]:
    """The contexts to try, the best first: 8 bits hurt less than half the context."""
    n_ctx = _wished(shape, options)
    best = Cache(
        n_ctx,
        options.type_k or "f16",
        options.type_v or "f16",
        n_outputs=options.n_outputs,
        rope=rope_for(shape, options, n_ctx),
    )
    on_cpu = not machine.devices or options.n_gpu_layers == 0
    if options.flash_attention is False:
        best = replace(best, flash_attention=False)
    elif options.flash_attention is None and on_cpu and _has_cheap_scores(shape, best):
        yield replace(best, flash_attention=False)
    yield best
    smaller = best
    if _divides(shape, "q8_0") and best.flash_attention:
        smaller = replace(best, type_k=options.type_k or "q8_0", type_v=options.type_v or "q8_0")
    if smaller != best:
        yield smaller
    n_ctx = best.n_ctx // 2
    while options.n_ctx is None and n_ctx >= _MIN_N_CTX:
        yield replace(smaller, n_ctx=n_ctx)
        n_ctx //= 2


def _wished(shape: ModelShape, options: PlacementOptions) -> int:
    if options.n_ctx is None:
        return min(shape.n_ctx_train, DEFAULT_N_CTX)
    return options.n_ctx or shape.n_ctx_train


def _has_cheap_scores(shape: ModelShape, cache: Cache) -> bool:
    """Whether attention runs faster without flash attention and its scores take little memory.

    On a CPU it is faster: 24 tokens after 2400 take 0.30 s without and 0.46 s with flash attention
    (the demo's Q8_0 on one core). Quantized values need flash attention in llama.cpp.
    """
    scores = 4 * shape.n_head * cache.cells * N_BATCH
    return 0 < scores <= _MAX_SCORE_BYTES and cache.type_v == "f16"


def _notes(
    shape: ModelShape, machine: Machine, options: PlacementOptions, cache: Cache
) -> Iterator[str]:
    if cache.n_ctx > shape.n_ctx_train:
        yield beyond_training(shape, options, cache.n_ctx)
    if options.n_gpu_layers and not machine.devices:
        yield "llama.cpp finds no GPU here: -ngl has no effect; 'franken-gguf doctor' shows why"
    if options.repack and not machine.can_repack:
        yield "llama.cpp crashes here with repacked weights: --repack has no effect"
    if options.n_cpu_moe and not shape.n_expert:
        yield "the model has no experts: --n-cpu-moe has no effect"
    for override in options.overrides:
        if not any(re.search(override.pattern, weight.name) for weight in shape.weights):
            yield f"-ot {override.pattern}={override.device}: matches no tensor"


def _idle(machine: Machine, best: Plan) -> Iterator[str]:
    idle = [device.name for device in machine.devices if device.name not in best.devices]
    if idle and best.n_gpu_layers:
        are = "is" if len(idle) == 1 else "are"
        whole = best.n_gpu_layers == best.n_layers and not (best.n_cpu_moe or best.partly)
        why = f": {best.devices[0]} has room for all" if whole and len(best.devices) == 1 else ""
        yield f"{' and '.join(idle)} {are} not used{why}"


def _slow_experts(shape: ModelShape, best: Plan) -> Iterator[str]:
    """A note if most experts in RAM are of types that a CPU decodes slowly, repacked or not."""
    in_ram = experts_in_ram(shape, best)
    slow = [w for w in in_ram if w.kind.startswith(_GRIDS) and w.kind in SLOW_ON_CPU]
    if 2 * sum(weight.nbytes for weight in slow) > sum(weight.nbytes for weight in in_ram):
        kinds = " and ".join(sorted({weight.kind for weight in slow}))
        yield (
            f"the experts in RAM are in {kinds}, which CPUs decode slowly; 'franken-gguf fit' "
            "finds types for this machine"
        )


def _reduced(best: Cache, cache: Cache) -> Iterator[str]:
    if replace(best, flash_attention=cache.flash_attention) != cache:
        yield f"{_described(best)} does not fit: using {_described(cache)}"


def _described(cache: Cache) -> str:
    return f"a context of {cache.n_ctx} tokens in {cache.type_k}/{cache.type_v}"
