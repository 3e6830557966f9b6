"""The bytes that a model takes on each device under a placement, by kind. Pure.

Weights and the KV cache are sums of exact sizes. The compute buffer, the peak of ggml's graph
allocator over a batch of `N_BATCH` tokens, is the widest moment of one layer. These are the moments
in floats for each token, found by varying one width at a time and asking llama.cpp (docs/plan.md):

    attention         max(2 E + 2 Q + KV, 3 E + 2 Q), one E less in the last layer
    feed-forward      3 u F + 2 E + Q
    sum of experts    (2 u + 3) E + Q, and 2 E more on a device where the first layers are not
    either on the CPU E more
    experts elsewhere (u + 2) E + Q on the device of the attention, and where they are:
                      max(3 u F + 2 E, (2 u + 3) E) for all, u F + (1 + u) E for some projections
    first layer after one whose experts were elsewhere, or that was on the CPU:
                      max((2 u + 1) E, attention + E); of the last layer (u + 2) E
    input             2 E, always on the CPU
    without flash     max(3 E + 2 Q, 2 E + 3 Q) + KV and a float for each head and token of the
    attention         context; the mask then takes 4 bytes, the feed-forward KV in place of Q

with E the width of the embedding, Q and KV those of all heads together, F that of an expert and u
the number of experts at work. The attention's mask comes to it, 2 bytes for each token of the batch
and of the context; on the CPU other tensors take its place where all layers are on one device. The
last layer's feed-forward sees only tokens whose logits are wanted, one, and does not count. It is
what llama.cpp takes, or up to a quarter more of these buffers, and never 1 % less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .model_shape import ModelShape, Weight

CPU = "CPU"
KV_CACHE = "KV cache"
COMPUTE = "compute buffers"
REPACKED = "repacked copies"
N_BATCH = 512
"""Tokens evaluated at once: large enough for full speed, small enough to stop soon."""

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
"""Types of a KV cache by llama.cpp's names for -ctk and -ctv."""

_PAD = 256  # llama.cpp rounds a context up to a multiple of it
_BATCH_INPUT_BYTES = 20  # of one token: its id, its position and its cells in the KV cache

Bytes = dict[str, dict[str, int]]
"""Device name to kind to bytes."""


@dataclass(frozen=True)
class Cache:
    """The context: how many tokens, and how their keys and values are kept."""

    n_ctx: int
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    n_outputs: int = 1
    """Tokens of a batch whose logits are wanted. llama.cpp takes room for all 512 if not told."""

    @property
    def cells(self) -> int:
        """Tokens that llama.cpp takes room for."""
        return -(-self.n_ctx // _PAD) * _PAD

    def nbytes(self, keys: int, values: int) -> int:
        """Of one layer whose keys and values are so wide."""
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
    """What lies on each device, where layer n is on `layers[n]` and the output on the last of them.

    `weights` pairs each weight with its device, which an override may have moved from its layer's.
    `copies_weights` is the device to which llama.cpp copies weights kept in RAM while it evaluates
    a prompt, if there is one.
    """
    found: dict[str, Counter[str]] = {CPU: Counter()}
    for weight, device in weights:
        if not (weight.is_tied and device == CPU):
            found.setdefault(device, Counter())[weight.group] += weight.nbytes
    for device, (keys, values) in zip(layers, shape.kv, strict=False):
        found.setdefault(device, Counter())[KV_CACHE] += cache.nbytes(keys, values)
    for device, nbytes in _compute(shape, cache, layers, weights, copies_weights).items():
        found.setdefault(device, Counter())[COMPUTE] += nbytes
    return {device: dict(kinds) for device, kinds in found.items()}


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
    floats = _peaks(shape, cache, layers, experts)
    # llama.cpp's scheduler copies one of them at a time.
    copied = max((w.nbytes for w, device in weights if device == CPU and w.layer >= 0), default=0)
    if copies_weights and copied:
        floats[copies_weights] = max(floats[copies_weights], _feed_forward(shape, cache))

    tokens = min(N_BATCH, cache.n_ctx)
    mask = (2 if cache.flash_attention else 4) * cache.cells
    mask_and_inputs = tokens * (mask + _BATCH_INPUT_BYTES)
    found = Counter({device: 4 * tokens * n + mask_and_inputs for device, n in floats.items()})
    homes = {*layers[: shape.n_layer]}
    if CPU not in homes and len(homes) == 1:  # the next device copies the mask only when it begins
        found[CPU] -= _room_of_mask(shape, cache, experts, 4 * tokens, found[CPU])
    output = layers[-1]
    found[output] = max(found[output], 4 * cache.n_outputs * (shape.n_vocab + shape.n_embd))
    found[CPU] += 4 * cache.n_outputs * shape.n_vocab
    if copies_weights and copied:
        found[copies_weights] += copied
    return found


def _room_of_mask(
    shape: ModelShape,
    cache: Cache,
    experts: Sequence[dict[str, str]],
    scale: int,
    peak: int,
) -> int:
    """Bytes of the CPU's `peak` that lie where the mask was, which only the device needs longer.

    `scale` is the bytes of one float for each token of the batch.
    """
    ff, embd = shape.n_expert_used * shape.n_ff, shape.n_embd
    whole = any(set(one.values()) == {CPU} for one in experts[:-1])
    tensors = (embd, ff, ff, ff) if whole else (ff, shape.n_expert_used * embd)
    mask = room = scale // 2 * cache.cells
    for floats in tensors:
        if floats * scale <= room:
            room -= floats * scale
    before = mask + 2 * embd * scale
    return min(mask - room, max(0, peak - before))


def _peaks(
    shape: ModelShape, cache: Cache, layers: Sequence[str], experts: Sequence[dict[str, str]]
) -> Counter[str]:
    """The widest moment of each device, in floats for each token of a batch."""
    embd, q, used = shape.n_embd, shape.n_q, shape.n_expert_used
    ff = used * shape.n_ff
    kv = max((keys + values for keys, values in shape.kv), default=0)
    attention = max(2 * embd + 2 * q + kv, 3 * embd + 2 * q)
    if not cache.flash_attention:
        scores = shape.n_head * cache.cells
        attention = scores + max(3 * embd + 2 * q, 2 * embd + 3 * q) + kv
    last = shape.n_layer - 1
    peak: Counter[str] = Counter({CPU: 2 * embd})

    def reach(device: str, floats: int) -> None:
        peak[device] = max(peak[device], floats)

    for n, home in enumerate(layers[: last + 1]):
        reach(home, attention - embd if n == last else attention)
        if (
            n
            and home not in (CPU, layers[n - 1])
            and CPU in (layers[n - 1], *experts[n - 1].values())
        ):
            # The experts of the layer before are summed up here.
            reach(
                home,
                (used + 2) * embd if n == last else max((2 * used + 1) * embd, attention + embd),
            )
        if n == last:
            break
        away = [device for device in experts[n].values() if device != home]
        if away:
            reach(home, (used + 2) * embd + q)
        if not away or len(away) < len(experts[n]):
            reach(home, _feed_forward(shape, cache) + (embd if home == CPU else 0))
            if layers[0] == CPU != home == layers[n - 1]:
                reach(home, (2 * used + 5) * embd + q)
        for device in away:
            if away.count(device) == len(experts[n]):
                reach(device, max(3 * ff + 2 * embd, (2 * used + 3) * embd))
            else:
                reach(device, ff + (1 + used) * embd)
    return peak


def _feed_forward(shape: ModelShape, cache: Cache) -> int:
    embd, used = shape.n_embd, shape.n_expert_used
    held = shape.n_q
    if not cache.flash_attention:
        held = max((keys + values for keys, values in shape.kv), default=0)
    return max(
        3 * used * shape.n_ff + 2 * embd + held,
        (2 * used + 3) * embd + shape.n_q,
    )
