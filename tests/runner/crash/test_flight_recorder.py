"""The record of llama.cpp's work: read back as written, and never past the end of its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.runner.crash.crash_line import death, end
from franken_gguf.runner.crash.flight_recorder import (
    ANSWERING,
    HEADER_BYTES,
    LOADING,
    READING,
    Flight,
    FlightRecorder,
    read,
)

FILE = Path("/tales/sea.jsonl")


def shared(room: int) -> tuple[FlightRecorder, bytearray]:
    """A recorder with `room` bytes for a form and its answer."""
    memory, recorder = bytearray(HEADER_BYTES + room), FlightRecorder()
    recorder.share(memory)
    return recorder, memory


def test_a_stage_within_another_gives_way_to_it_again() -> None:
    recorder, memory = shared(0)
    with recorder.during(ANSWERING, "a.gguf"):
        with recorder.during(READING, "a.gguf"):
            assert read(memory) == Flight("a.gguf", READING)
        assert read(memory) == Flight("a.gguf", ANSWERING)
    assert read(memory) == Flight("a.gguf", "")


def test_a_model_whose_file_the_user_did_not_name_has_the_name_that_it_is_given() -> None:
    recorder, memory = shared(0)
    with recorder.naming("tale.yml: base model tales"), recorder.during(LOADING, "/tmp/base.gguf"):
        assert read(memory).model == "tale.yml: base model tales"
    with recorder.during(LOADING, "a\x1b[2J" + "b" * 2000):
        assert read(memory).model == "a\\x1b[2J" + "b" * 1016


def test_a_file_is_its_pieces_joined_by_the_answer_so_far() -> None:
    recorder, memory = shared(100)
    recorder.begin(FILE, [b'{"mes": "', b'", "swipes": ["One.", "', b'"]}\n'])
    for text in ("The ", "s\N{LATIN SMALL LETTER E WITH ACUTE}a"):
        recorder.add(text.encode())
    assert (read(memory).path, read(memory).content.decode()) == (
        FILE,
        '{"mes": "The s\xe9a", "swipes": ["One.", "The s\xe9a"]}\n',
    )
    recorder.begin(FILE, [b"whole"])
    assert read(memory).content == b"whole"
    recorder.forget()
    assert read(memory).path is None


@pytest.mark.parametrize("room", range(40))
def test_text_that_does_not_fit_is_left_out_and_nothing_is_written_past_the_memory(
    room: int,
) -> None:
    recorder, memory = shared(room)
    form = len(b"/tales/sea.jsonl\0<\0>")
    recorder.begin(FILE, [b"<", b">"])
    for _ in range(10):
        recorder.add(b"sea")
    assert len(memory) == HEADER_BYTES + room
    if room < form:
        assert read(memory) == Flight()
    else:
        assert read(memory).content == b"<" + b"sea" * min(10, (room - form) // 3) + b">"


def test_a_death_names_its_signal_its_stage_and_llama_cpps_reason() -> None:
    doctor = "; 'franken-gguf doctor' checks this machine"
    killed = "killed (SIGKILL) while answering, most likely because memory ran out"
    assert death(Flight("a", ANSWERING), 9) == killed + doctor
    assert death(Flight(), 11) == "the program crashed (SIGSEGV)" + doctor
    assert death(Flight(), 35) == "the program crashed (signal 35)" + doctor
    assert end(Flight("a", READING)) == (
        "the program ended while llama.cpp was reading the prompt" + doctor
    )
    recorder, memory = shared(0)
    with recorder.during(READING, "a"):
        recorder.record_abort(b"x.cpp:1: GGML_ASSERT(a)\n failed\x1b")
        assert death(read(memory), 6) == (
            "llama.cpp crashed (SIGABRT: x.cpp:1: GGML_ASSERT(a) failed\\x1b) "
            "while reading the prompt" + doctor
        )
