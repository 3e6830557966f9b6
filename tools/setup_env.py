"""Create .venv with everything this project needs, and report progress while llama.cpp compiles.

The environment variable VENV names a folder other than .venv. llama-cpp-python's wheel works with
every Python and is kept under .cache/wheels, so that it is compiled once for all folders.

The Makefile runs this with the system's Python before anything is installed: it uses only the
standard library and syntax that Python 3.7 can read, to report that 3.7 is too old.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import amx

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / os.environ.get("VENV", ".venv")
READY = VENV / ".ready"
HALF_MADE = VENV / ".half-made"
LOG = ROOT / ".cache" / "setup.log"

PYTHON = str(VENV / "bin" / "python")
PIP = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input"]
CONSTRAINTS = ["-c", str(ROOT / "constraints.txt")]
DOCTOR = [PYTHON, "-m", "franken_gguf.runner", "doctor", "--json"]

OLDEST_PYTHON = (3, 10)
HEARTBEAT_SECONDS = 20
CHECK_SECONDS = 120

# The first pattern found at the end of the log decides which fix is shown.
FIXES = (
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        "Python's venv module is missing: install it "
        "(Debian, Ubuntu: sudo apt install python3-venv)",
    ),
    (
        r"CMAKE_C(XX)?_COMPILER",
        "no working C++ compiler: install one (Debian, Ubuntu: sudo apt install build-essential; "
        "Fedora: sudo dnf install gcc-c++; macOS: xcode-select --install)",
    ),
    (
        r"Killed signal terminated program|cannot allocate memory|out of memory",
        "the compiler ran out of memory: "
        "put CMAKE_BUILD_PARALLEL_LEVEL=1 before the command and try again",
    ),
    (r"No space left on device", "the disk is full: free about 2 GB and try again"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted: "
        "set PIP_CERT to the file with your CA certificates",
    ),
    (
        r"NewConnectionError|Temporary failure in name resolution|Max retries exceeded"
        r"|ReadTimeout|ConnectionError|Network is unreachable|NameResolutionError",
        "the package index cannot be reached: check the network or proxy and try again",
    ),
)


class SetupError(Exception):
    """Set-up failed; the text is the line shown to the user."""


def main() -> int:
    """Bring .venv up to date; exit status 0, 1 (one line says why) or 130 (interrupted)."""
    started = time.monotonic()
    try:
        set_up()
    except KeyboardInterrupt:
        print("\nInterrupted; rerun the same command to continue.", file=sys.stderr)
        return 130
    except SetupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    say(f"finished in {clock(started)}")
    return 0


def set_up() -> None:
    """Install what pyproject.toml and constraints.txt ask for into .venv.

    Safe to repeat however the last run ended: HALF_MADE exists while .venv is incomplete, and
    READY, the Makefile's stamp, is written last.
    """
    if sys.version_info < OLDEST_PYTHON:
        have, want = (f"{major}.{minor}" for major, minor in (sys.version_info[:2], OLDEST_PYTHON))
        raise SetupError(
            f"{sys.executable} is Python {have}, but {want} or newer is needed: "
            "choose one, as in `make PYTHON=python3.12 test`"
        )
    environ = build_environment(dict(os.environ))
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    if HALF_MADE.exists():
        say(f"the last set-up did not finish: recreating {VENV.name}")
        shutil.rmtree(VENV)
    VENV.mkdir(exist_ok=True)
    HALF_MADE.touch()
    if READY.exists():
        READY.unlink()

    say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
    run([sys.executable, "-m", "venv", str(VENV)])
    # The pip that comes with Python 3.10 to 3.13 does not know --group.
    run([*PIP, "install", "--upgrade", *CONSTRAINTS, "pip"])
    say("installing dependencies (compiles llama.cpp once: about 5 minutes on two cores)")
    # -v writes the compiler's [12/190] to the log, for the progress lines.
    compile_llama(environ)
    dependencies = ["-e", str(ROOT), "--group", "dev"]
    run([*PIP, "install", "-v", *CONSTRAINTS, *find_links(environ), *dependencies], environ)
    make_engine_work(environ)
    READY.touch()
    HALF_MADE.unlink()


def compile_llama(environ: dict[str, str], *options: str) -> None:
    """Build llama-cpp-python's wheel into `wheels(environ)` unless it is there already.

    pip's own cache keeps a wheel only for the Python that built it.
    """
    folder = wheels(environ)
    folder.mkdir(parents=True, exist_ok=True)
    target = ["--no-deps", "--wheel-dir", str(folder), *options, "llama-cpp-python"]
    run([*PIP, "wheel", "-v", *CONSTRAINTS, *find_links(environ), *target], environ)


def wheels(environ: dict[str, str]) -> Path:
    """The folder for wheels compiled in this environment; a separate one for those without AMX."""
    name = "wheels-without-amx" if amx.is_left_out(environ) else "wheels"
    return ROOT / ".cache" / name


def find_links(environ: dict[str, str]) -> list[str]:
    """pip's options to find wheels in `wheels(environ)`."""
    return ["--find-links", str(wheels(environ))]


def build_environment(environ: dict[str, str]) -> dict[str, str]:
    """The environment to compile llama.cpp in, without AMX if AMX does not work.

    Raises SetupError.
    """
    try:
        fault = amx.fault(environ)
    except ValueError as error:
        raise SetupError(str(error)) from None
    return without_amx(environ, fault) if fault else environ


def without_amx(environ: dict[str, str], fault: str) -> dict[str, str]:
    """`environ` without AMX, reported in a line; unchanged if the compiler has no AMX flags."""
    if not amx.can_leave_out(amx.cxx(environ)):
        return environ
    say(f"AMX does not work on this machine ({fault}); compiling llama.cpp without it")
    return amx.environment_without(environ, ROOT / ".cache" / "pip-without-amx")


def make_engine_work(environ: dict[str, str]) -> None:
    """Test the installed llama.cpp; if it crashes on this CPU, compile it here and test again.

    A wheel from pip's cache or another index may have been built for another CPU. Raises SetupError
    if llama.cpp still crashes.
    """
    fault = engine_fault()
    if not fault:
        return
    say(f"llama.cpp crashes on this CPU ({fault}); recompiling it without pip's cache")
    if amx.is_listed() and not amx.is_left_out(environ):
        environ = without_amx(environ, fault)
    shutil.rmtree(wheels(environ), ignore_errors=True)
    compile_llama(environ, "--no-cache-dir", "--no-binary", "llama-cpp-python")
    again = ["--force-reinstall", "--no-deps", "llama-cpp-python"]
    run([*PIP, "install", *CONSTRAINTS, *find_links(environ), *again], environ)
    fault = engine_fault()
    if fault:
        raise SetupError(
            f"llama.cpp crashes on this CPU ({fault}) even when compiled here: try another "
            "compiler, as in `CC=clang CXX=clang++ make test`, or fewer CPU features, as in "
            "`CMAKE_ARGS=-DGGML_NATIVE=OFF make test`"
        )


def engine_fault() -> str:
    """The crash that `doctor` finds in the installed llama.cpp with a tiny model; "" if none.

    Raises SetupError if `doctor` itself fails.
    """
    try:
        done = subprocess.run(
            DOCTOR,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(DOCTOR)}` did not answer within {CHECK_SECONDS} s") from None
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    if done.returncode > 0:
        with LOG.open("ab") as log:
            log.write(done.stderr)
        raise SetupError(explain(log_end(10_000)))
    return str(json.loads(done.stdout)["cpu_check"]["fault"])


def run(command: list[str], environ: dict[str, str] | None = None) -> None:
    """Run one step with its output in the log, and a progress line every HEARTBEAT_SECONDS.

    Raises SetupError if the step fails.
    """
    started = time.monotonic()
    with LOG.open("ab") as log:
        step = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while step.poll() is None:
            try:
                step.wait(timeout=HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                # The warnings of a single file can be 100 kB.
                say(f"{clock(started):>10}  {current_step(log_end(500_000))}")
    except KeyboardInterrupt:
        step.terminate()
        step.wait()
        raise
    if step.returncode != 0:
        raise SetupError(explain(log_end(10_000)))


def current_step(log: str) -> str:
    """The step at the end of pip's log: the file being compiled, or pip's last step."""
    compiling = r"^\s*\[(\d+)/(\d+)\] "
    step = (
        r"^\s*(Collecting \S+|Downloading \S+|Installing build dependencies"
        r"|Building (?:wheel|editable) for [\w-]+|Installing collected packages)"
    )
    found = re.findall(f"{compiling}|{step}", log, re.MULTILINE)
    if not found:
        return "working"
    number, total, words = found[-1]
    return words or f"compiling llama.cpp: file {number} of {total}"


def explain(log: str) -> str:
    """The error line for a failed step: the fix if it is known, else the end of the log."""
    where = os.path.relpath(LOG)
    for pattern, fix in FIXES:
        if re.search(pattern, log, re.IGNORECASE):
            return f"{fix} (log: {where})"
    last_lines = "".join(f"\n  | {line[:150]}" for line in log.splitlines()[-12:])
    return f"set-up failed; the end of {where}:{last_lines}"


def log_end(size: int) -> str:
    """The last `size` bytes of the log, as text."""
    with LOG.open("rb") as log:
        log.seek(max(0, LOG.stat().st_size - size))
        return log.read().decode("utf-8", "replace")


def clock(started: float) -> str:
    """The time since `started` (of time.monotonic), in minutes and seconds."""
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def say(text: str) -> None:
    """Print one line immediately, also through a pipe."""
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
