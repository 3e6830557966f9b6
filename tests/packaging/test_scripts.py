"""The scripts in tools/ and benchmarks/ import only what exists."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.models import ROOT

SCRIPTS = sorted(
    path for folder in ("tools", "benchmarks") for path in (ROOT / folder).glob("*.py")
)
# Installed only where a script needs them, as its docstring says.
OPTIONAL = {"torch", "transformers", "peft", "pyte", "PIL"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_name_that_a_script_imports_exists(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        package = node.module.partition(".")[0]
        if package in OPTIONAL:
            continue
        if package not in ("franken_gguf", "support"):
            assert find_spec(node.module), node.module
            continue
        module = import_module(node.module)
        for alias in node.names:
            is_module = hasattr(module, "__path__") and find_spec(f"{node.module}.{alias.name}")
            assert hasattr(module, alias.name) or is_module, f"{node.module}.{alias.name}"
