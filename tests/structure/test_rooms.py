"""The floor plan in docs/architecture.md is the code's: who imports whom, and no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from support.models import ROOT

PACKAGE = "franken_gguf"
EVERYTHING = "everything above"
FREE = ("runner/ui", "runner/cli")
# A verb's screen, its command and its work bear the verb's name.
VERBS = {path.stem for path in (ROOT / "runner/cli").glob("*.py")}


def modules() -> dict[str, Path]:
    """Dotted name to file, of all but `python -m`'s entry point, which stands above the rooms."""
    files = [path for top in ("quantize", "runner") for path in (ROOT / top).rglob("*.py")]
    files = [path for path in files if path.name != "__main__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


MODULES = modules()


def imported(name: str, path: Path) -> Iterator[str]:
    """Our modules that a module imports, at its start, inside functions or for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = name.split(".")[: -node.level] if node.level else []
        parts += node.module.split(".") if node.module else []
        origin = ".".join(parts).removeprefix(f"{PACKAGE}.")
        for alias in node.names:
            for candidate in (f"{origin}.{alias.name}", origin, f"{origin}.__init__"):
                if candidate in MODULES:
                    yield candidate
                    break


IMPORTS = {name: set(imported(name, path)) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    """The folder that a module is in, as the document writes it."""
    return "/".join(module.split(".")[:-1])


def drawn() -> dict[str, set[str]]:
    """Room to the rooms that it may import, as the document's tables have them."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+)/` \| .+? \| (.*) \|$", text, re.MULTILINE)
    above = {name: {one for one, _ in rows[:place]} for place, (name, _) in enumerate(rows)}
    return {
        name: above[name] if uses == EVERYTHING else set(re.findall(r"`([\w/]+)/`", uses))
        for name, uses in rows
    }


def test_every_room_is_drawn_and_imports_exactly_what_its_row_says() -> None:
    found: dict[str, set[str]] = {}
    for module, targets in IMPORTS.items():
        found.setdefault(room(module), set()).update(
            room(target) for target in targets if not target.endswith("__init__")
        )
    rules = drawn()
    used = {name: uses - {name} for name, uses in found.items()}
    assert rules.keys() == used.keys()
    for name, uses in used.items():
        if name in FREE:
            assert uses <= rules[name]
        else:
            assert uses == rules[name], name


def test_what_a_room_is_for_is_what_its_own_first_line_says() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for name, purpose in re.findall(r"^\| `([\w/]+)/` \| (.+?) \| .* \|$", text, re.MULTILINE):
        tree = ast.parse((ROOT / name / "__init__.py").read_text(encoding="utf-8"))
        first = (ast.get_docstring(tree) or "").splitlines()[0]
        assert f"{purpose}." == first, name


def test_no_module_imports_itself_by_way_of_others_not_even_for_types() -> None:
    plain = {
        name: {target for target in targets if not target.endswith("__init__")}
        for name, targets in IMPORTS.items()
    }
    order = list(TopologicalSorter(plain).static_order())  # raises CycleError, naming the circle
    assert set(order) >= set(MODULES) - {name for name in MODULES if name.endswith("__init__")}


def test_no_room_imports_itself_by_way_of_others() -> None:
    order = list(TopologicalSorter(drawn()).static_order())
    assert len(order) == len(drawn()) > 20


def test_no_two_files_of_one_name_mean_different_things() -> None:
    seen: dict[str, str] = {}
    for module in MODULES:
        name = module.rpartition(".")[2]
        if name.startswith("__") or name in VERBS:
            continue
        assert name not in seen, f"{module} and {seen[name]}"
        seen[name] = module
