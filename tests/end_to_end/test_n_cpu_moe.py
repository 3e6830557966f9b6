"""convert --n-cpu-moe: experts of the first layers get only types that a CPU decodes fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.target_size.measurements import FOLDER, measurements_key, save
from franken_gguf.runner.cli import main
from franken_gguf.runner.sensitivity.probe_texts import BUILT_IN
from support.checkpoints import make_checkpoint
from support.made_up_measurements import by_bits

Types = dict[str, str]


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint beside made-up measurements of it."""
    path = make_checkpoint(tmp_path_factory.mktemp("layers") / "tales", dtype="F16", layers=3)
    source = open_source(path)
    key = measurements_key(source, {}, "\0".join(BUILT_IN).encode())
    (path.parent / FOLDER).mkdir()
    save(path.parent / FOLDER / f"{key}.json", by_bits(source, weighted=False))
    return path


def planned(tales: Path, *words: object) -> Types:
    """Tensor name to type of the file that `words` would write."""
    line = ["convert", tales, "--target-bpw", 4, *words, "--kernels", "numpy", "--dry-run"]
    result = CliRunner().invoke(main, [*map(str, line), "--json"])
    assert result.exit_code == 0, result.output
    (output,) = json.loads(result.stdout)["outputs"]
    return {tensor["name"]: tensor["type"] for tensor in output["tensors"]}


def slow(types: Types) -> list[int]:
    """The layers that have experts of types that a CPU decodes slowly."""
    names = {name for name, kind in types.items() if "_exps." in name and kind in SLOW_ON_CPU}
    return sorted({int(name.split(".")[1]) for name in names})


def test_the_first_layers_are_those_that_llama_cpp_keeps_in_ram(tales: Path) -> None:
    assert slow(planned(tales)) == [0, 1, 2]
    assert slow(planned(tales, "--n-cpu-moe", 1)) == [1, 2]
    assert slow(planned(tales, "-ncmoe", 2)) == [2]


def test_none_is_no_restriction_and_all_or_more_is_cpu_moe(tales: Path) -> None:
    assert planned(tales, "--n-cpu-moe", 0) == planned(tales)
    every = planned(tales, "--cpu-moe")
    assert slow(every) == []
    assert planned(tales, "--n-cpu-moe", 3) == planned(tales, "--n-cpu-moe", 99) == every
