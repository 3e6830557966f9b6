"""The page's files: small, of known origin, with types that agree, and a policy that is strict."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.models import ROOT
from support.servers import Server

FOLDER = ROOT / "runner/server/page"
TYPESCRIPT = "7.0.2"
MOST_BYTES = 100_000


def test_the_whole_page_is_at_most_100_kb_gzipped() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= MOST_BYTES


def test_vendored_files_are_those_of_the_registry_byte_for_byte() -> None:
    vendored = json.loads((FOLDER / "vendor/vendored.json").read_text())
    for name, origin in vendored.items():
        found = hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest()
        assert found == origin["sha256"], name
    others = {path.name for path in (FOLDER / "vendor").iterdir()} - set(vendored)
    assert others == {"vendored.json", "htm-preact.d.ts"}


@pytest.mark.parametrize("path", sorted((FOLDER / "modules").iterdir()), ids=lambda path: path.stem)
def test_a_module_says_its_purpose_and_makes_no_markup_of_text(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// ") and text.count("\n") < 300
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text


def test_the_files_may_load_nothing_from_elsewhere(server: Server) -> None:
    for path in ("/", "/page/modules/main.js", "/page/style/base.css", "/page/icon.svg"):
        with server.response("GET", path) as response:
            assert response.status == 200
            policy = response.headers["content-security-policy"]
            assert policy.startswith("default-src 'self';") and "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"


def test_scripts_have_a_scripts_type_whatever_the_system_says(server: Server) -> None:
    with server.response("GET", "/page/modules/main.js") as response:
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"


def test_nothing_outside_the_pages_folder_is_served(server: Server) -> None:
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page/"):
        assert server.request("GET", path)[0] == 404


def test_the_types_that_the_modules_declare_agree() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node: apt install nodejs npm")
    folder = ROOT / ".cache" / f"typescript-{TYPESCRIPT}"
    compiler = folder / "node_modules/.bin/tsc"
    if not compiler.exists():
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
        got = subprocess.run(
            [*install, str(folder), f"typescript@{TYPESCRIPT}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if got.returncode:
            pytest.skip(f"npm could not install typescript: {got.stderr[-200:]}")
    checked = subprocess.run(
        [compiler, "-p", FOLDER / "jsconfig.json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
