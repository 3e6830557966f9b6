"""A comparison as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.report.table_csv import as_csv
from franken_gguf.runner.compare.results.document import Comparison
from support.comparisons import LIFE, answer, comparison, drawn, lean, model, score


def read(found: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(found), newline="")))


def test_each_model_has_a_row_and_columns_are_named_as_in_the_json() -> None:
    asked = (LIFE, LIFE)
    base = model("F16", 1024, text=score(None), prompts=(answer(lean=lean(2)),) * 2)
    other = model(
        "Q4_0",
        256,
        text=score(0.08, 0.002),
        prompts=(answer("So it is."), answer(lean=lean(-1, (-3, -3.5, -2.5)))),
    )
    first, second = read(comparison(base, other, prompts=asked))
    assert (first["name"], first["nbytes"], second["name"]) == ("F16", str(1 << 30), "Q4_0")
    assert (first["text.kld.value"], second["text.kld.value"]) == ("", "0.08")
    assert second["text.kld_percentiles.99"] == "0.32"
    assert second["prompts.life #1.greedy.text"] == "So it is."
    assert second["prompts.life #2.lean.difference.low"] == "-3.5"
    assert first["prompts.life #1.lean.paraphrases"] == "1.0 1.5 2.0 2.5 3.0"


def test_columns_of_some_models_follow_the_json_order() -> None:
    columns = list(read(drawn(1))[0])
    start = columns.index("text.ppl.value")
    assert columns[start : start + 3] == ["text.ppl.value", "text.ppl.error", "text.ln_ratio.value"]


def test_a_list_of_objects_has_no_column() -> None:
    found = drawn(1)
    rows = read(found)
    columns = list(rows[0])
    assert rows[0]["routing.drift"] == ""
    assert found.models[1].routing
    assert rows[1]["routing.drift"] == " ".join(map(str, found.models[1].routing.drift))
    assert not [one for one in columns if "layers" in one or "samples" in one]


def test_the_entropy_that_the_json_derives_from_loads_has_a_column() -> None:
    found = drawn(1)
    for row, one in zip(read(found), found.models, strict=True):
        assert one.routing and float(row["routing.load_entropy"]) == one.routing.load_entropy


@given(st.text(), st.text(min_size=1))
def test_no_cell_is_a_formula_or_breaks_its_row(text: str, name: str) -> None:
    prompt = replace(LIFE, name=name)
    other = model("=cmd|' /C calc'!A0", 256, error=text, prompts=(answer(text),))
    found = comparison(model("+F16", 1024), other, prompts=(prompt,))
    written = as_csv(found)
    written.encode()
    rows = read(found)
    assert [row["name"] for row in rows] == ["'+F16", "'=cmd|' /C calc'!A0"]
    for row in rows:
        for column, cell in row.items():
            assert not column.startswith(tuple("=+-@"))
            assert not cell.lstrip().startswith(tuple("=+@\t\r"))
            assert not cell.lstrip().startswith("-") or float(cell) < 0
