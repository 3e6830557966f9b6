"""Write a Mixtral 4x7B of random weights as GGUF, in any format and with any number of layers.

    python benchmarks/large_model.py MODEL.gguf [--type Q4_0] [--layers 32]

Its shapes are Mistral-7B's, its tokenizer SmolLM2's, and what it writes is nonsense: it is there to
be loaded and timed. All 32 layers in Q4_0 are 13.6 GB, written as fast as the disk takes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.header import TensorInfo, read_header
from support.shapes import MIXTRAL_4X7B, Shape, sparse_model

_POOL_WEIGHTS = 1 << 22
_PIECE_BLOCKS = 1 << 18
_SCALE = 0.02


def random_model(
    path: Path,
    kind: str = "Q4_0",
    layers: int = 32,
    shape: Shape = MIXTRAL_4X7B,
    expert_kinds: Sequence[str] = (),
) -> Path:
    """A model of `shape`, a 4x7B's unless another is given, with random weights.

    Its matrices are random blocks of a pool that this project's own quantizer made: each is valid.
    The experts of the layers are in `expert_kinds` by turns, if there are any.
    """
    kinds = [GGMLQuantizationType[name] for name in expert_kinds]
    main_kind = GGMLQuantizationType[kind]
    sparse_model(path, kind=main_kind, expert_kinds=kinds, **shape | {"layers": layers})
    header = read_header(path)
    random = np.random.default_rng(0)
    pools = {name: _pool(name, random) for name in dict.fromkeys((kind, *expert_kinds))}
    with path.open("rb+") as file:
        for tensor in header.tensors:
            file.seek(tensor.offset)
            pool = pools.get(tensor.type.name)
            if pool is not None:
                blocks = tensor.nbytes // pool.shape[1]
                for start in range(0, blocks, _PIECE_BLOCKS):
                    count = min(_PIECE_BLOCKS, blocks - start)
                    file.write(pool[random.integers(len(pool), size=count)].data)
            else:
                file.write(_floats(tensor, random).data)
    return path


def _pool(kind: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """Blocks of `kind`, one a row."""
    weights = random.normal(0, _SCALE, (1 << 10, _POOL_WEIGHTS >> 10)).astype(np.float32)
    even = np.ones(weights.shape[1], np.float32) if FORMATS[kind].needs_importance else None
    return FORMATS[kind].quantize(weights, even).reshape(-1, FORMATS[kind].block_bytes)


def _floats(tensor: TensorInfo, random: np.random.Generator) -> NDArray[np.float32]:
    """A norm, which changes nothing, or a router."""
    if len(tensor.shape) == 1:
        return np.ones(tensor.shape, np.float32)
    return random.normal(0, _SCALE, tensor.shape).astype(np.float32)


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--type", choices=FORMATS, default="Q4_0")
    parser.add_argument("--layers", type=int, default=32)
    options = parser.parse_args()
    made = random_model(options.model, options.type, options.layers)
    print(f"{made}: {made.stat().st_size / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
