"""The set-up's own words: what pip is doing, and the mend for what fails on fresh machines."""

from __future__ import annotations

import pytest
from setup_env import doing, explain

COMPILING = """\
  Building wheel for llama-cpp-python (pyproject.toml): started
  [41/193] /usr/bin/g++ -O3 -c llama-chat.cpp
  warning: something [1/2] of no interest
  [42/193] /usr/bin/g++ -O3 -c llama-context.cpp
  note: candidate function
"""


def test_the_heartbeat_names_the_file_being_compiled() -> None:
    assert doing(COMPILING) == "compiling llama.cpp: file 42 of 193"


def test_after_compiling_the_heartbeat_names_the_next_step() -> None:
    log = COMPILING + "Installing collected packages: numpy, llama-cpp-python\n"
    assert doing(log) == "Installing collected packages"


def test_before_the_first_known_line_the_heartbeat_still_speaks() -> None:
    assert doing("") == "working"


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage", "install one"),
        ("The virtual environment was not created: ensurepip is not available", "python3-venv"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("Failed to establish a new connection: NewConnectionError", "check the network"),
    ],
)
def test_a_known_failure_comes_with_its_mend(line: str, mend: str) -> None:
    text = explain(f"  {line}\nerror: failed-wheel-build-for-install\n")
    assert mend in text
    assert "\n" not in text


def test_an_unknown_failure_shows_the_end_of_the_log() -> None:
    text = explain("first\n" + "line\n" * 30 + "the last words\n")
    assert text.endswith("\n  | the last words")
    assert "first" not in text
