"""What a process holds in RAM, by Linux's account, and a child that loads a model and says it.

Reads a job from its first argument as JSON: model, ram (bytes to plan with, or null), wishes,
prompt (tokens). Writes the plan and the growth of its resident memory, in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple


class Resident(NamedTuple):
    """Bytes in RAM."""

    own: int
    """Allocated: RssAnon."""
    files: int
    """Pages of mapped files: RssFile."""

    def since(self, before: Resident) -> Resident:
        """How much more than `before`."""
        return Resident(self.own - before.own, self.files - before.files)


def resident() -> Resident:
    """Of this process, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    own, files = (int(values[key].split()[0]) * 1024 for key in ("RssAnon", "RssFile"))
    return Resident(own, files)


def loaded_in_a_child(job: dict[str, Any]) -> dict[str, Any]:
    """What the child says of `job`."""
    command = [sys.executable, __file__, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _run(job: dict[str, Any]) -> dict[str, Any]:
    # In the child alone; the tests need only the rest of this file.
    from llama_cpp import llama_cpp as lib  # noqa: PLC0415

    from franken_gguf.quantize.gguf_file.header import read_header  # noqa: PLC0415
    from franken_gguf.runner.engine.backend import loaded_model  # noqa: PLC0415
    from franken_gguf.runner.engine.engine import Engine, LoadOptions  # noqa: PLC0415
    from franken_gguf.runner.engine.this_machine import this_machine  # noqa: PLC0415

    header = read_header(Path(job["model"]))
    machine = this_machine()
    if job.get("ram"):
        machine = replace(machine, ram=job["ram"])
    params = lib.llama_model_default_params()
    params.vocab_only = True
    with loaded_model(header, params):  # the plan does not count the vocabulary
        before = resident()
    options = LoadOptions(**job.get("wishes", {}), n_threads=1)
    with Engine(header, options, machine=machine) as engine:
        engine.evaluate([1000 + n for n in range(job["prompt"])])
        engine.decode((1,))
        grown = resident().since(before)
        return {"plan": asdict(engine.plan), "total": engine.plan.total_ram, **grown._asdict()}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
