"""What an unfinished run has summed up, kept in a file so that the next one resumes from it."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.files import save_arrays
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.gguf_file.split_files import parts
from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums
from franken_gguf.quantize.tensor_types.second_moments import MomentSums

from .input_moments import InputMoments
from .sums import added

_SAVE_SECONDS = 20.0
_SAVE_SHARE = 20  # saving takes at most a twentieth of the time
_SAMPLES, _SAMPLE_BYTES = 256, 4096


class Partial:
    """The sums over the first of `chunks`.

    With `moments` these are kept as well. `key` names what else the sums depend on. A file with
    another key, or over other chunks, is ignored and replaced; one over the same first chunks is
    resumed, whatever comes after them.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        chunks: Sequence[Sequence[int]],
        moments: InputMoments | None = None,
    ) -> None:
        self.path = path
        self._moments = moments
        if moments:
            moments.weights = {}
        self.weights: dict[str, WeightSums] = {}
        self.done = 0
        """Chunks that are in the sums."""
        self._key, self._chunks = key, chunks
        self._saved, self._next_save = 0, time.monotonic() + _SAVE_SECONDS
        self._load()

    def add(self, chunk: dict[str, WeightSums]) -> None:
        """Add the sums of the next chunk; saves them from time to time. Raises OutputError."""
        self.weights = added(self.weights, chunk)
        self.done += 1
        if time.monotonic() >= self._next_save:
            began = time.monotonic()
            self.save()
            took = time.monotonic() - began
            self._next_save = time.monotonic() + max(_SAVE_SECONDS, _SAVE_SHARE * took)

    def save(self) -> None:
        """Write what is new to the file. Raises OutputError."""
        if self.done == self._saved:
            return
        moments = self._moments.weights if self._moments else {}
        each = list(dict.fromkeys(moments.values()))
        head = json.dumps(
            {
                "key": self._key,
                "done": self.done,
                "chunks": self._read(self.done),
                "names": list(self.weights),
                "moments": {name: each.index(sums) for name, sums in moments.items()},
            }
        )
        arrays: dict[str, NDArray[Any]] = {"head": np.frombuffer(head.encode(), np.uint8)}
        for number, weight in enumerate(self.weights.values()):
            arrays |= {f"sums{number}": weight.sums, f"counts{number}": weight.counts}
        for number, sums in enumerate(each):
            arrays |= {f"moments{number}": sums.sums, f"inputs{number}": sums.counts}
        save_arrays(self.path, arrays)
        self._saved = self.done

    def delete(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> None:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                head = json.loads(arrays["head"].tobytes())
                done = int(head["done"])
                if head["key"] != self._key or head["chunks"] != self._read(done):
                    return
                for number, name in enumerate(head["names"]):
                    sums, counts = arrays[f"sums{number}"], arrays[f"counts{number}"]
                    self.weights[name] = WeightSums(sums, counts)
                if self._moments is not None:
                    self._moments.weights = _read_moments(head["moments"], arrays)
                self.done = self._saved = done
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            self.weights, self.done = {}, 0  # damaged: begin again

    def _read(self, count: int) -> str:
        """A hash of the first `count` chunks."""
        found = hashlib.sha256()
        for chunk in self._chunks[:count]:
            found.update(np.array(chunk, "<i4").tobytes())
        return found.hexdigest()


def _read_moments(numbers: dict[str, int], arrays: Mapping[str, Any]) -> dict[str, MomentSums]:
    each = {
        number: MomentSums(arrays[f"moments{number}"], arrays[f"inputs{number}"])
        for number in set(numbers.values())
    }
    return {name: each[number] for name, number in numbers.items()}


def content_key(header: Header, *settings: object) -> str:
    """A hash of a model and the settings that sums depend on.

    Of the model's files it takes the sizes, the headers and samples of the weights. Raises OSError.
    """
    found = hashlib.sha256(repr(settings).encode())
    for part in parts(header):
        nbytes = part.path.stat().st_size
        start = min((tensor.offset for tensor in part.tensors), default=nbytes)
        step = max(1, (nbytes - start) // _SAMPLES)
        with part.path.open("rb") as file:
            found.update(file.read(start))
            for place in range(start, nbytes, step):
                file.seek(place)
                found.update(file.read(_SAMPLE_BYTES))
    return found.hexdigest()
