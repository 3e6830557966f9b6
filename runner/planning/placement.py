"""The planner's data: the machine, the user's placement options, and the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from franken_gguf.quantize.common.errors import FrankenError

from .memory_use import CPU, Bytes, Cache
from .repacking import COMMON_REPACKS, Repacks
from .rope import Rope


class PlanError(FrankenError):
    """An option that does not suit the model or the machine; the message has the fix."""


@dataclass(frozen=True)
class Device:
    """A GPU or RPC device that llama.cpp can compute on."""

    name: str
    """As llama.cpp calls it: CUDA0, Vulkan0, MTL0, RPC0."""
    free: int
    """Free bytes."""
    copies_weights: bool = True
    """Whether it evaluates prompts with weights kept in RAM too, copied there for each batch."""
    shares_ram: bool = False
    """Whether its memory is the machine's RAM: an integrated GPU, Apple silicon."""
    is_remote: bool = False
    """Whether it is reached over a network, and so slower than any local one."""
    pins_ram: bool = True
    """Whether weights kept in RAM are pinned for it, and so not repacked for the CPU."""


@dataclass(frozen=True)
class Machine:
    """The memory that a plan can use."""

    ram: int
    """Free bytes."""
    devices: tuple[Device, ...] = ()
    can_repack: bool = True
    """Whether llama.cpp's extra buffers (repacked weights, AMX) work here."""
    repacks: Repacks = field(default_factory=lambda: COMMON_REPACKS)
    """Which weights llama.cpp repacks for this CPU."""


@dataclass(frozen=True)
class Override:
    """Puts tensors whose names match the regular expression `pattern` on `device`."""

    pattern: str
    device: str


@dataclass(frozen=True)
class PlacementOptions(Rope):
    """What the user has decided; None leaves it to the planner."""

    n_ctx: int | None = None
    """Tokens of context; 0 means the context that the model was trained with."""
    type_k: str | None = None
    type_v: str | None = None
    n_gpu_layers: int | None = None
    """Layers on devices, counted from the last, the output included; -1 means all."""
    n_cpu_moe: int | None = None
    """Layers whose experts stay in RAM, counted from the first."""
    flash_attention: bool | None = None
    tensor_split: tuple[float, ...] | None = None
    """Each device's share of those layers, in order; devices beyond its end get none."""
    n_outputs: int = 1
    """Most tokens of a batch whose logits are requested: one is enough to generate text."""
    overrides: tuple[Override, ...] = ()
    """The first match decides; they come before those that the planner adds."""
    mmap: bool | None = None
    """Map the file (True) or read it into memory (False)."""
    repack: bool | None = None
    """Repack weights for the CPU (True) or multiply them as stored (False)."""
    experts_used: int | None = None
    """Experts that work on each token, instead of the file's number."""


DEFAULT_PLACEMENT = PlacementOptions()


def is_first(layers: tuple[int, ...]) -> bool:
    """Whether these are the first layers of a model, as with llama.cpp's --n-cpu-moe."""
    return layers == tuple(range(len(layers)))


@dataclass(frozen=True)
class Plan:
    """The settings for llama.cpp, and the memory that it will use."""

    model: str
    cache: Cache
    devices: tuple[str, ...]
    """Devices for llama.cpp to use, in the order of their layers; empty for the CPU alone."""
    tensor_split: tuple[int, ...]
    """Layers on each of them; 0 if only overrides put tensors there."""
    n_layers: int
    """All layers of the model, the output included."""
    n_gpu_layers: int
    n_cpu_moe: int
    """Number of layers whose experts stay in RAM."""
    cpu_moe_layers: tuple[int, ...]
    """Those layers: the first, unless a CPU decodes the experts of others clearly faster."""
    partly: tuple[str, ...]
    """Projections of the experts of one more layer that stay in RAM too."""
    overrides: tuple[Override, ...]
    """The user's, then those for the experts."""
    used: Bytes
    """Device to kind to bytes; RAM is "CPU"."""
    shared: tuple[str, ...]
    """Devices whose memory is RAM: an integrated GPU's, Apple silicon's."""
    available: dict[str, int]
    """Device to free bytes."""
    headroom: dict[str, int]
    """Device to bytes to leave free."""
    flags: tuple[str, ...]
    """The same settings as options of llama-cli and llama-server."""
    mmap: bool
    """Whether the file is mapped, not read into memory."""
    repack: bool
    """Whether llama.cpp may repack weights for the CPU."""
    repackable: int
    """Bytes of the weights in RAM that llama.cpp can repack, whether it does or not."""
    experts_used: int | None = None
    """Experts that work on each token, if not the file's number."""
    notes: tuple[str, ...] = ()
    """Which options or defaults have no effect or were changed, and why."""
    advice: tuple[str, ...] = ()
    """What to change if it does not fit."""

    def total(self, device: str) -> int:
        """Bytes used on `device`, without its headroom."""
        return sum(self.used[device].values()) if device in self.used else 0

    @property
    def total_ram(self) -> int:
        """Bytes used of RAM, by the CPU and by devices that share it."""
        return sum(map(self.total, (CPU, *self.shared)))

    def summary(self) -> str:
        """Which devices have the layers, in a few words."""
        every = self.n_layers
        if not self.devices:
            return f"all {every} layers on the CPU"
        shares = [f"{n} on {d}" for n, d in zip(self.tensor_split, self.devices, strict=True) if n]
        if len(shares) < 2:
            text = f"{self.n_gpu_layers} of {every} layers on {self.devices[0]}"
        else:
            text = f"{self.n_gpu_layers} of {every} layers, {', '.join(shares)}"
        if self.n_cpu_moe:
            text += f", the experts of {self.n_cpu_moe} in RAM"
            if not is_first(self.cpu_moe_layers):
                text += " (those that a CPU decodes fastest)"
        if self.partly:
            text += f", and {' and '.join(self.partly)} of one more"
        return text

    @property
    def short(self) -> dict[str, int]:
        """Device to the bytes that it lacks, headroom included; empty if all fits."""
        missing = {
            name: (self.total_ram if name == CPU else self.total(name))
            + self.headroom[name]
            - available
            for name, available in self.available.items()
        }
        return {name: nbytes for name, nbytes in missing.items() if nbytes > 0}

    @property
    def fits(self) -> bool:
        """Whether every device has room for its part."""
        return not self.short
