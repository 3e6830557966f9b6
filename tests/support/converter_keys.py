"""What llama.cpp's converter wrote for the checkpoints of cases.py, and ours in the same form."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType

from franken_gguf.quantize.gguf_file.values import Metadata

EXPECTED = json.loads(
    (Path(__file__).parents[1] / "expected" / "converter.json").read_text(encoding="utf-8")
)


def as_expected(metadata: Metadata) -> list[list[Any]]:
    """Our metadata in the form of the expectations."""
    rows = []
    for key, value in metadata.items():
        data = value.data
        if GGUFValueType.FLOAT32 in (value.type, value.item_type):
            data = np.asarray(data, np.float32).tolist()
        if isinstance(data, list) and len(data) > 32:
            digest = sha256(json.dumps(data).encode()).hexdigest()
            data = {"count": len(data), "sha256": digest}
        item = value.item_type.name if value.item_type is not None else None
        rows.append([key, value.type.name, item, data])
    return rows
