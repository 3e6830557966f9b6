"""The error message about a process that died while llama.cpp was working: one line; pure."""

from __future__ import annotations

import signal

from .flight_recorder import Flight

_DOCTOR = "'franken-gguf doctor' checks this machine"


def death(flight: Flight, number: int) -> str:
    """How a process was ended by the signal `number`, without the model's name."""
    name, doing = _name(number), f" while {flight.doing}" if flight.doing else ""
    if name == "SIGKILL":  # which Windows does not have
        return f"killed ({name}){doing}, most likely because memory ran out; {_DOCTOR}"
    crashed = "llama.cpp" if doing else "the program"
    reason = f": {flight.reason}" if flight.reason else ""
    return f"{crashed} crashed ({name}{reason}){doing}; {_DOCTOR}"


def end(flight: Flight) -> str:
    """How a process ended, if the signal is not known."""
    if flight.reason:
        return f"llama.cpp crashed ({flight.reason}) while {flight.doing}; {_DOCTOR}"
    return f"the program ended while llama.cpp was {flight.doing}; {_DOCTOR}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
