"""The bytes that a model needs on each device under a placement, by kind. Pure.

Weights and the KV cache are sums of exact sizes. The compute buffer, the peak of ggml's graph
allocator over a batch of `N_BATCH` tokens, is the widest step of one layer. These are the steps in
floats for each token, found by varying one width at a time and asking llama.cpp (docs/plan.md):

    attention         max(2 E + 2 Q + KV, 3 E + 2 Q), one E less in the last layer
    feed-forward      3 u F + 2 E + Q
    sum of experts    (2 u + 3) E + Q, and 2 E more on a device that does not have the first layers,
                      if these or the experts of the layer before the device's are on the CPU
    either on the CPU E more
    experts elsewhere (u + 2) E + Q on the device of the attention, and where they are:
                      max(3 u F + 2 E, (2 u + 3) E) for all, u F + (1 + u) E for some projections
    first layer after one whose experts were elsewhere, or that was on the CPU:
                      max((2 u + 1) E, attention + E); of the last layer (u + 2) E
    shared expert     3 S + 3 E; r S + (u + 4) E on the CPU, beside experts elsewhere, and if S fits
                      into the active experts' outputs, where r = 3 - floor(u E / S) or 0; the
                      experts are summed up before it, so the first layer after them needs attention
    input             2 E, always on the CPU
    without flash     max(3 E + 2 Q, 2 E + 3 Q) + KV and a float for each head and token of the
    attention         context, (u - 1) E more with a shared expert; the mask then takes 4 bytes, the
                      feed-forward KV in place of Q

with E the width of the embedding, Q and KV those of all heads together, F that of an expert, S that
of the shared one and u the number of active experts. The attention's mask is added, 2 bytes for
each token of the batch and of the context; on the CPU other tensors reuse its memory if all layers
are on one device. The last layer's feed-forward sees only the tokens whose logits are requested,
one, and is left out. The result is what llama.cpp takes or up to a quarter more, and never more
than 1 % less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .model_shape import ModelShape, Weight
from .rope import STORED_ROPE, Rope

CPU = "CPU"
KV_CACHE = "KV cache"
COMPUTE = "compute buffers"
REPACKED = "repacked copies"
N_BATCH = 512
"""Tokens evaluated at once: enough for full speed, few enough to stop soon."""

KV_TYPES = {
    kind.name.lower(): kind
    for kind in (
        GGMLQuantizationType.F32,
        GGMLQuantizationType.F16,
        GGMLQuantizationType.BF16,
        GGMLQuantizationType.Q8_0,
        GGMLQuantizationType.Q5_1,
        GGMLQuantizationType.Q5_0,
        GGMLQuantizationType.Q4_1,
        GGMLQuantizationType.Q4_0,
        GGMLQuantizationType.IQ4_NL,
    )
}
"""Types of the KV cache, by llama.cpp's names for -ctk and -ctv."""

_PAD = 256  # llama.cpp rounds a context up to a multiple of it
_BATCH_INPUT_BYTES = 20  # of one token: its id, its position and its cells in the KV cache

Bytes = dict[str, dict[str, int]]
"""Device name to kind to bytes."""


@dataclass(frozen=True)
class Cache:
    """The context: its size in tokens, and how their keys and values are stored."""

    n_ctx: int
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    n_outputs: int = 1
    """Tokens of a batch whose logits are requested; llama.cpp's default reserves room for all."""
    rope: Rope = STORED_ROPE
    """How positions become angles."""

    @property
    def cells(self) -> int:
        """Tokens that llama.cpp reserves memory for."""
        return -(-self.n_ctx // _PAD) * _PAD

    def nbytes(self, keys: int, values: int) -> int:
        """Bytes for one layer with `keys` and `values` floats for each token."""
        return self.cells * (_row_bytes(keys, self.type_k) + _row_bytes(values, self.type_v))


def _row_bytes(width: int, kind: str) -> int:
    block_len, block_bytes = GGML_QUANT_SIZES[KV_TYPES[kind]]
    return -(-width // block_len) * block_bytes


def memory_of(
    shape: ModelShape,
    cache: Cache,
    layers: Sequence[str],
    weights: Sequence[tuple[Weight, str]],
    *,
    copies_weights: str | None = None,
) -> Bytes:
    """Bytes by device and kind, with layer n on `layers[n]` and the output on the last of them.

    `weights` pairs each weight with its device, which an override can change from its layer's.
    `copies_weights` is the device, if any, to which llama.cpp copies weights kept in RAM while it
    evaluates a prompt.
    """
    used: dict[str, Counter[str]] = {CPU: Counter()}
    for weight, device in weights:
        if not (weight.is_tied and device == CPU):
            used.setdefault(device, Counter())[weight.group] += weight.nbytes
    for device, (keys, values) in zip(layers, shape.kv, strict=False):
        used.setdefault(device, Counter())[KV_CACHE] += cache.nbytes(keys, values)
    for device, nbytes in _compute(shape, cache, layers, weights, copies_weights).items():
        used.setdefault(device, Counter())[COMPUTE] += nbytes
    return {device: dict(kinds) for device, kinds in used.items()}


def _compute(
    shape: ModelShape,
    cache: Cache,
    layers: Sequence[str],
    weights: Sequence[tuple[Weight, str]],
    copies_weights: str | None,
) -> Counter[str]:
    experts: list[dict[str, str]] = [{} for _ in shape.kv]
    for weight, device in weights:
        if weight.projection and weight.layer < shape.n_layer:
            experts[weight.layer][weight.projection] = device
    steps = _graph_steps(shape, cache)
    floats = _peaks(shape.n_layer, steps, layers, experts)
    # llama.cpp's scheduler copies one weight at a time.
    copied = max((w.nbytes for w, device in weights if device == CPU and w.layer >= 0), default=0)
    if copies_weights and copied:
        floats[copies_weights] = max(floats[copies_weights], steps.feed_forward)

    tokens = min(N_BATCH, cache.n_ctx)
    mask = (2 if cache.flash_attention else 4) * cache.cells
    mask_and_inputs = tokens * (mask + _BATCH_INPUT_BYTES)
    nbytes = Counter({device: 4 * tokens * n + mask_and_inputs for device, n in floats.items()})
    homes = {*layers[: shape.n_layer]}
    if CPU not in homes and len(homes) == 1:  # another device would copy the mask later
        nbytes[CPU] -= _reused_mask_bytes(shape, cache, experts, 4 * tokens, nbytes[CPU])
    output = layers[-1]
    nbytes[output] = max(nbytes[output], 4 * cache.n_outputs * (shape.n_vocab + shape.n_embd))
    nbytes[CPU] += 4 * cache.n_outputs * shape.n_vocab
    if copies_weights and copied:
        nbytes[copies_weights] += copied
    return nbytes


def _reused_mask_bytes(
    shape: ModelShape,
    cache: Cache,
    experts: Sequence[dict[str, str]],
    scale: int,
    peak: int,
) -> int:
    """Bytes of the CPU's `peak` that reuse the memory of the mask, once the device has copied it.

    `scale` is the bytes of one float for each token of the batch.
    """
    ff, embd = shape.n_expert_used * shape.n_ff, shape.n_embd
    has_whole_layer = any(set(devices.values()) == {CPU} for devices in experts[:-1])
    tensors = (embd, ff, ff, ff) if has_whole_layer else (ff, shape.n_expert_used * embd)
    mask = room = scale // 2 * cache.cells
    for floats in tensors:
        if floats * scale <= room:
            room -= floats * scale
    before = mask + 2 * embd * scale
    return min(mask - room, max(0, peak - before))


@dataclass(frozen=True)
class _GraphSteps:
    """Floats for each token of a batch that live at a step of a layer's graph; see above."""

    input: int
    attention: int
    last_attention: int
    """Attention of the last layer."""
    feed_forward: int
    """The feed-forward or the sum of its experts, the wider one."""
    cpu_feed_forward: int
    sum_off_first_device: int
    """The sum of experts on a device that comes after layers or experts on the CPU."""
    waiting_for_experts: int
    """On the device of the attention, while experts are computed elsewhere."""
    experts_alone: int
    """All projections of the experts, on a device without the attention."""
    projections_alone: int
    """Some projections of the experts, on a device without the attention."""
    sum_of_previous: int
    """The first layer on a device, which sums up the experts of the layer before."""
    sum_of_previous_in_last: int
    """The same, if that layer is the last."""


def _graph_steps(shape: ModelShape, cache: Cache) -> _GraphSteps:
    embd, q, used = shape.n_embd, shape.n_q, shape.n_expert_used
    ff = used * shape.n_ff
    kv = max((keys + values for keys, values in shape.kv), default=0)
    if cache.flash_attention:
        attention = max(2 * embd + 2 * q + kv, 3 * embd + 2 * q)
    else:
        scores = shape.n_head * cache.cells
        attention = scores + max(3 * embd + 2 * q, 2 * embd + 3 * q) + kv
    beside_projections = q if cache.flash_attention else kv
    sum_of_experts = (2 * used + 3) * embd + q
    widest = max(ff, shape.n_ff_dense)
    feed_forward = max(3 * widest + 2 * embd + beside_projections, sum_of_experts)
    steps = _GraphSteps(
        input=2 * embd,
        attention=attention,
        last_attention=max(attention - embd, 3 * q + kv),
        feed_forward=feed_forward,
        cpu_feed_forward=feed_forward + embd,
        sum_off_first_device=sum_of_experts + 2 * embd,
        waiting_for_experts=(used + 2) * embd + q,
        experts_alone=max(3 * ff + 2 * embd, (2 * used + 3) * embd),
        projections_alone=ff + (1 + used) * embd,
        sum_of_previous=max((2 * used + 1) * embd, attention + embd),
        sum_of_previous_in_last=(used + 2) * embd,
    )
    return _with_shared_expert(steps, shape, cache, kv) if shape.n_ff_shared else steps


def _with_shared_expert(
    steps: _GraphSteps, shape: ModelShape, cache: Cache, kv: int
) -> _GraphSteps:
    width, embd, used = shape.n_ff_shared, shape.n_embd, shape.n_expert_used
    holes = used * embd // width
    beside = max(3 - holes, 0) * width + (used + 4) * embd
    alone = beside if holes else 3 * width + 3 * embd
    more = 0 if cache.flash_attention else (used - 1) * embd
    return replace(
        steps,
        attention=steps.attention + more,
        feed_forward=max(steps.feed_forward, alone),
        cpu_feed_forward=max(steps.cpu_feed_forward, beside + (0 if cache.flash_attention else kv)),
        waiting_for_experts=max(steps.waiting_for_experts, beside),
        sum_of_previous=steps.attention + embd,
        sum_of_previous_in_last=steps.last_attention,
    )


def _peaks(
    n_layer: int, steps: _GraphSteps, layers: Sequence[str], experts: Sequence[dict[str, str]]
) -> Counter[str]:
    """The widest step on each device, in floats for each token of a batch."""
    last = n_layer - 1
    peak: Counter[str] = Counter({CPU: steps.input})
    after_cpu: set[str] = set()

    def reach(device: str, floats: int) -> None:
        peak[device] = max(peak[device], floats)

    for n, home in enumerate(layers[: last + 1]):
        reach(home, steps.last_attention if n == last else steps.attention)
        is_new = n and home not in (CPU, layers[n - 1])
        if is_new and CPU in (layers[0], layers[n - 1], *experts[n - 1].values()):
            after_cpu.add(home)
        if is_new and CPU in (layers[n - 1], *experts[n - 1].values()):
            reach(home, steps.sum_of_previous_in_last if n == last else steps.sum_of_previous)
        if n == last:
            break
        away = [device for device in experts[n].values() if device != home]
        if away:
            reach(home, steps.waiting_for_experts)
        if not away or len(away) < len(experts[n]):
            reach(home, steps.cpu_feed_forward if home == CPU else steps.feed_forward)
            if home in after_cpu and not is_new:
                reach(home, steps.sum_off_first_device)
        for device in away:
            all_there = away.count(device) == len(experts[n])
            reach(device, steps.experts_alone if all_there else steps.projections_alone)
    return peak
