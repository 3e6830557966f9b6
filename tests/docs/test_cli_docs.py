"""docs/cli.md equals the output of `--help`."""

from __future__ import annotations

from make_cli_docs import PAGE, page


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/cli.md is out of date: run `make docs`"
