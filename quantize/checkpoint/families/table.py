"""The table of all families, by the class that config.json names."""

from __future__ import annotations

from .deepseek import DEEPSEEK
from .llama import LLAMA, MISTRAL, OLD_LLAMA
from .mixtral import MIXTRAL
from .qwen2 import QWEN2
from .qwen2_moe import QWEN2_MOE
from .qwen3 import QWEN3
from .qwen3_moe import QWEN3_MOE

FAMILIES = {
    family.class_name: family
    for family in (
        LLAMA,
        OLD_LLAMA,
        MISTRAL,
        MIXTRAL,
        DEEPSEEK,
        QWEN2,
        QWEN2_MOE,
        QWEN3,
        QWEN3_MOE,
    )
}

ARCHITECTURES = sorted({family.architecture for family in FAMILIES.values()})
"""llama.cpp's names for them."""
