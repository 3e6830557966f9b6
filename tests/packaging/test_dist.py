"""The archives that `make dist` builds: complete, and at work where no checkout is to be seen."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from filelock import FileLock

from support.models import ROOT, dense_checkpoint

ROOMS = ("quantize", "runner")


@dataclass(frozen=True)
class Archives:
    source: Path
    wheel: Path


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Built once for all test processes, from a copy: setuptools leaves files where it works."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    built = shared / "dist"
    with FileLock(shared / "dist.lock"):
        if not built.exists():
            copy = shared / "copy"
            leave = (".*", "__pycache__", "*.egg-info", "build", "dist", "demo", "*.gguf")
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*leave))
            build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
            run([*build, str(shared / "half"), str(copy)])
            (shared / "half").rename(built)
    (source,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    return Archives(source, wheel)


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of_the_rooms() -> Iterator[Path]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.parent.name != "__pycache__":
                yield path.relative_to(ROOT)


def test_the_wheel_holds_every_file_of_both_rooms_and_nothing_else(archives: Archives) -> None:
    with zipfile.ZipFile(archives.wheel) as archive:
        names = archive.namelist()
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == {f"franken_gguf/{path.as_posix()}" for path in files_of_the_rooms()}


def test_the_source_archive_holds_every_file_that_git_tracks(archives: Archives) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = run(["git", "ls-files"], cwd=ROOT).splitlines()
    with tarfile.open(archives.source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    # Files whose name begins with a dot serve git, the type checker and the forge.
    wanted = {name for name in tracked if not name.startswith(".") and (ROOT / name).exists()}
    assert wanted - names == set()


@pytest.fixture(scope="session")
def empty_environment(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and the libraries that the tests themselves run on.

    A .pth file that names a folder does not run that folder's own .pth files, so the editable
    install of the checkout stays out of sight.
    """
    environment = tmp_path_factory.mktemp("environment") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    (packages,) = environment.glob("lib/*/site-packages")
    libraries = [folder for folder in sys.path if Path(folder).name == "site-packages"]
    (packages / "libraries.pth").write_text("\n".join(libraries) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python")]
    run([*pip, "install", "--no-deps", "--no-index", str(archives.wheel)])
    return environment


def test_installed_from_the_wheel_it_converts_a_model_and_answers_with_it(
    empty_environment: Path, tmp_path: Path
) -> None:
    home = {"HOME": str(tmp_path), "PATH": f"{empty_environment / 'bin'}:{os.defpath}"}

    def do(*command: str) -> str:
        return run([str(empty_environment / "bin" / command[0]), *command[1:]], tmp_path, home)

    where = "import franken_gguf.runner as it; print(it.__file__)"
    imported = Path(do("python", "-c", where).strip())
    assert imported.is_relative_to(empty_environment)

    assert "llama-cpp-python" in do("franken-gguf", "doctor")
    do("franken-gguf", "convert", str(dense_checkpoint()), "-q", "Q8_0", "-o", "model.gguf")
    assert "Q8_0" in do("franken-gguf", "inspect", "model.gguf")
    question = ("-p", "What is the capital of France?", "--temp", "0")
    answer = do("franken-gguf", "chat", "model.gguf", *question)
    assert answer == "The capital of France is Paris.\n"


def test_the_libraries_that_it_imports_are_the_dependencies_that_it_declares(
    archives: Archives,
) -> None:
    imported = set()
    for path in files_of_the_rooms():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    imported.add(str(node.module).partition(".")[0])
    libraries = imported - sys.stdlib_module_names - {"franken_gguf"}
    distributions = packages_distributions()
    needed = {normal(distributions[name][0]) for name in libraries}
    # safetensors is a given of the project: what reads and writes the format is checked against it.
    assert needed | {"safetensors"} == {normal(line) for line in declared(archives.wheel)}


def declared(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


def normal(requirement: str) -> str:
    """The project's name as package indexes write it, without versions."""
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()
