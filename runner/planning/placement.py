"""The words a plan is spoken of in: a machine, the user's options, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass, field

from franken_gguf.quantize.common.errors import FrankenError

from .memory_use import CPU, Bytes, Cache
from .repacking import COMMON_REPACKS, Repacks


class PlanError(FrankenError):
    """A wish that the model or the machine cannot fulfil; the text names the mend."""


@dataclass(frozen=True)
class Device:
    """Memory beside the CPU's that llama.cpp can compute in."""

    name: str
    """As llama.cpp calls it: CUDA0, Vulkan0, MTL0, RPC0."""
    free: int
    """Bytes that may be planned with."""
    copies_weights: bool = True
    """Whether prompts are evaluated there also with weights kept in RAM, copied for each batch."""
    shares_ram: bool = False
    """Whether its memory is the machine's RAM: an integrated GPU, Apple silicon."""
    is_remote: bool = False
    """Whether it is reached over a network: slower than any that is here."""
    pins_ram: bool = True
    """Whether weights kept in RAM beside it are pinned for it, and so not repacked for the CPU."""


@dataclass(frozen=True)
class Machine:
    """What a plan may use."""

    ram: int
    devices: tuple[Device, ...] = ()
    can_repack: bool = True
    """Whether llama.cpp's extra buffers (repacked weights, AMX) work here."""
    repacks: Repacks = field(default_factory=lambda: COMMON_REPACKS)
    """What llama.cpp repacks for its CPU."""


@dataclass(frozen=True)
class Override:
    """Tensors whose name the regular expression `pattern` is found in go to `device`."""

    pattern: str
    device: str


@dataclass(frozen=True)
class PlacementOptions:
    """What the user has decided; None leaves it to the plan."""

    n_ctx: int | None = None
    """Tokens of context; 0 is all that the model was trained for."""
    type_k: str | None = None
    type_v: str | None = None
    n_gpu_layers: int | None = None
    """Layers on devices, counted from the last, the output being one; -1 is all."""
    n_cpu_moe: int | None = None
    """Layers whose experts stay in RAM, counted from the first."""
    flash_attention: bool | None = None
    tensor_split: tuple[float, ...] | None = None
    """Shares of those layers that the devices get, in their order; what is not named gets none."""
    n_outputs: int = 1
    """Tokens evaluated at once whose logits are wanted: one is enough to write."""
    overrides: tuple[Override, ...] = ()
    """The first whose pattern is found decides; they go before what the plan adds."""
    mmap: bool | None = None
    """Map the file, or read it into memory of its own."""
    repack: bool | None = None
    """Repack weights for the CPU, or multiply them as they are in the file."""


DEFAULT_PLACEMENT = PlacementOptions()


@dataclass(frozen=True)
class Plan:
    """What llama.cpp is to be given, and what it will take of the memory."""

    model: str
    cache: Cache
    devices: tuple[str, ...]
    """Those that llama.cpp is to use, in the order of their layers. None is the CPU alone."""
    tensor_split: tuple[int, ...]
    """Layers on each of them; 0 where only an override sends something."""
    n_layers: int
    """All that the model has, the output being one."""
    n_gpu_layers: int
    n_cpu_moe: int
    partly: tuple[str, ...]
    """Projections of the experts of layer `n_cpu_moe` that stay in RAM too."""
    overrides: tuple[Override, ...]
    """All that llama.cpp is given: the user's, then those for the experts."""
    used: Bytes
    """Device to kind to bytes; those of RAM under "CPU"."""
    shared: tuple[str, ...]
    """Devices whose memory is RAM: an integrated GPU's, Apple silicon's."""
    available: dict[str, int]
    headroom: dict[str, int]
    """Bytes that are to stay free."""
    flags: tuple[str, ...]
    """The same for llama-cli and llama-server."""
    mmap: bool
    """Whether the file is mapped, or read into memory of its own."""
    repack: bool
    """Whether llama.cpp may repack weights for the CPU."""
    repackable: int
    """Bytes of the weights in RAM that it can repack, whether it does or not."""
    notes: tuple[str, ...] = ()
    """What of the options or defaults could not be, and why."""
    advice: tuple[str, ...] = ()
    """What to change, where it does not fit."""

    def total(self, device: str) -> int:
        """Bytes taken on `device`, without its headroom."""
        return sum(self.used[device].values()) if device in self.used else 0

    @property
    def total_ram(self) -> int:
        """Bytes taken of RAM, by the CPU and by devices that share it."""
        return sum(map(self.total, (CPU, *self.shared)))

    def summary(self) -> str:
        """Who holds the layers, in a few words."""
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
        if self.partly:
            text += f", and {' and '.join(self.partly)} of one more"
        return text

    @property
    def short(self) -> dict[str, int]:
        """Device to the bytes that are missing there, headroom included; empty where all fits."""
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
