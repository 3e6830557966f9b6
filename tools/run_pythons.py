"""Run `make test` with several Pythons, each in its own folder, such as .venv-3.12.

Names like `python3.12` are looked up on the PATH and among pyenv's versions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 10.0
SHOW_VERSION = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def main(names: list[str]) -> int:
    """Test each Python and print a line for each; exit status 1 if any failed or none was found."""
    results = []
    failed = False
    for name in names:
        python = find(name)
        if python is None:
            results.append(f"{name}: not installed")
            continue
        print(f"== {name}: {python}", flush=True)
        passed = run_tests(python)
        results.append(f"{name}: {'passed' if passed else 'FAILED'}")
        failed = failed or not passed
    print("\n".join(results))
    return int(failed or all(line.endswith("not installed") for line in results))


def run_tests(python: Path) -> bool:
    """Run `make test` with `python` in the folder for its version; whether all passed."""
    make = [os.environ.get("MAKE", "make"), f"PYTHON={python}", f"VENV=.venv-{version(python)}"]
    return subprocess.run([*make, "test"], cwd=ROOT, check=False).returncode == 0


def find(name: str) -> Path | None:
    """The first Python of this name that starts and can create a virtual environment.

    One on the PATH can be a pyenv shim that only reports that its version is not active.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in os.get_exec_path()]
    for folder in [*folders, *sorted(pyenv.glob("versions/*/bin"), reverse=True)]:
        python = folder / name
        if python.is_file() and name == f"python{version(python)}":
            return python
    return None


def version(python: Path) -> str:
    """`3.12` for Python 3.12.1; "" if it does not start or has no venv module."""
    try:
        shown = subprocess.run(
            [str(python), "-c", SHOW_VERSION],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return shown.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
