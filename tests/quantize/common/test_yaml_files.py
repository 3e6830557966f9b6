"""YAML files are read as YAML 1.2 has them, and no short one takes long or ends in a traceback."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.common.yaml_files import read_yaml
from franken_gguf.quantize.merge.recipe_file import read_recipe

MOST = 1 << 18  # of the files read with it, recipes are allowed to be the largest
ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(folder: Path, text: str | bytes) -> Any:
    file = folder / "file.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(file, MergeError, MOST)


SCALARS: dict[str, Any] = {
    "1e-3": 0.001,
    "1E5": 100000.0,
    "2e+4": 20000.0,
    "-1.5e-2": -0.015,
    ".5": 0.5,
    "3.": 3.0,
    "-7": -7,
    "010": 10,
    "-.inf": -math.inf,
    "9" * 41: float("9" * 41),
    "yes": True,
    "Off": False,
    "": None,
    "~": None,
    "1:30": "1:30",
    "2024-01-01": "2024-01-01",
    "1_000": "1_000",
    "0x10": "0x10",
    ".": ".",
    "e5": "e5",
    "<<": "<<",
    '"1e-3"': "1e-3",
    "'yes'": "yes",
    '""': "",
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_what_yaml_1_2_says(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, f"a: {text}\n")["a"]
    assert (type(found), found) == (type(SCALARS[text]), SCALARS[text])


def test_a_recipe_may_write_numbers_as_json_does(tmp_path: Path) -> None:
    recipe = tmp_path / "tales.yml"
    (tmp_path / "base").mkdir()
    recipe.write_text(
        "base_model: base\ngate_mode: random\n"
        "experts:\n- {source_model: base, noise_scale: 1e-3}\n- {source_model: base}\n"
    )
    assert [expert.noise_scale for expert in read_recipe(recipe).experts] == [0.001, 0.0]


def test_keys_are_texts_as_they_stand(tmp_path: Path) -> None:
    assert read(tmp_path, "yes: 1\n1e3: 2\n~: 3\n") == {"yes": 1, "1e3": 2, "~": 3}


REFUSED = {
    "a: 1\nb: 2\na: 3": r"line 3: 'a' appears twice; remove one of them",
    "a: 1\n'a': 3": r"line 2: 'a' appears twice",
    "a:\n- !!bool abc": r"line 2: holds a YAML tag \('tag:yaml.org,2002:bool'\); remove it",
    "a: !!timestamp abc": r"line 1: holds a YAML tag",
    'a: !!int ""': r"line 1: holds a YAML tag",
    'a: !!float ""': r"line 1: holds a YAML tag",
    "!!set {a, b}": r"line 1: holds a YAML tag",
    "[a, b]: 1": r"line 1: has a key that is a list or a mapping",
    "--- a\n--- b": r"line 2: begins a second document",
    "a: [[[[1]]]]": r"line 1: nests lists or mappings more than 4 deep",
    "[" + "1," * 10_000: r"line 1: holds more than 10000 values",
    'a: "\\UFFFFFFFF"': r"not valid YAML",
    'a: "\\U00110000"': r"not valid YAML",
    'a: "\\ud800"': r"line 1: holds an unpaired surrogate",
    '"\\ud800": 1': r"line 1: holds an unpaired surrogate",
    "a: [": r"line 1: not valid YAML",
    "%YAML " + "1" * 5000 + ".1\n--- a": r"not valid YAML",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_no_recipe_needs_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(MergeError, match=REFUSED[text]) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


LARGEST = {
    "sexagesimals": "a: " + "1:" * MOST,
    "a list": "[" + "1," * MOST,
    "lists": "[" * MOST,
    "mappings": "{" * MOST,
    "lines": 'a: "' + "x\n" * (MOST // 2 - 4) + '"',
    "words": "a: " + "b " * MOST,
    "entries": "".join(f"a{n:04}: {'b c ' * 11}\n" for n in range(4999)),
    "directives": "%A B\n" * MOST,
    "digits": "a: " + "9" * MOST,
    "bits": "a: 0x" + "f" * MOST,
}


@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_files_take_little_time(tmp_path: Path, what: str) -> None:
    start = time.process_time()
    try:
        read(tmp_path, LARGEST[what].encode()[:MOST])
    except MergeError as error:
        assert "\n" not in str(error)
    assert time.process_time() - start < 2  # the slowest, entries, takes 0.3 s


@ONE_FOLDER
@given(st.binary() | st.text(alphabet="ab:-?![]{}&*%<>|'\"\\#,~\n 01eU.").map(str.encode))
def test_whatever_the_bytes_they_are_read_or_refused_in_one_line(
    tmp_path: Path, data: bytes
) -> None:
    try:
        read(tmp_path, data)
    except MergeError as error:
        assert "\n" not in str(error)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**39), 10**39)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=3,
)


@ONE_FOLDER
@given(VALUES)
def test_what_pyyaml_writes_is_read_back(tmp_path: Path, value: Any) -> None:
    assert read(tmp_path, yaml.safe_dump(value)) == value
