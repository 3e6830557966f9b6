"""Kills a conversion before each of its steps on the disk, and has each killed one resumed.

    python -m support.walk_child WAY SOURCE.gguf FOLDER

A process of its own, which may fork. Prints, as JSON, the steps and how many of the killed runs
were resumed, begun again, or complete already.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from dataclasses import astuple
from pathlib import Path

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.output_paths import refuse_early
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from support.system_calls import Step, steps_of

WAYS = {
    "one output": ["Q8_0"],
    "two outputs in one pass": ["Q8_0", "Q4_0"],
    "one output in parts": ["Q8_0"],
    "two outputs over older files": ["Q8_0", "Q4_0"],
    "one output where another command was killed": ["Q8_0"],
}
SPLIT_BYTES = 40_000


class Walk:
    """One way to convert, killed everywhere."""

    def __init__(self, way: str, source: Path, folder: Path) -> None:
        self.way, self.folder = way, folder
        self.source = open_source(source)
        self.overwrite = way == "two outputs over older files"
        self.expected: dict[str, bytes] = {}
        self.older: dict[str, bytes] = {}
        self.ends: Counter[str] = Counter()

    def outputs(self, types: list[str]) -> list[Output]:
        split = SPLIT_BYTES if self.way == "one output in parts" else None
        return [
            plan_output(
                self.source, self.folder / f"{n}.gguf", find_preset(name), split_max_size=split
            )
            for n, name in enumerate(types)
        ]

    def run(self, types: list[str] | None = None) -> list[str]:
        """What the command does; returns its notices. Raises OutputError."""
        outputs = self.outputs(types or WAYS[self.way])
        notices: list[str] = []
        refuse_early(outputs, self.source, overwrite=self.overwrite)
        convert(
            self.source, outputs, save_seconds=0, overwrite=self.overwrite, notify=notices.append
        )
        return notices

    def set_up(self) -> None:
        """The folder as it is before the command is given for the first time."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name, data in self.older.items():
            (self.folder / name).write_bytes(data)
        if self.way == "one output where another command was killed":
            steps_of(lambda: self.run(["Q4_0"]), self.folder, kill_at=20)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def walk(self) -> list[Step]:
        """Kill before every step, and run again; returns the steps of an undisturbed run."""
        self.set_up()
        self.run()
        self.expected = self.files()
        if self.overwrite:
            # Of the same size and header, as those of another version of the model are.
            self.older = {name: data[:-4] + b"\1old" for name, data in self.expected.items()}
        self.set_up()
        steps = self.watched()
        for number, step in enumerate(steps):
            self.set_up()
            done = steps_of(self.run, self.folder, kill_at=number)
            assert done == steps[: number + 1], f"another way to step {number}: {done}"
            self.resume(f"killed before step {number} of {len(steps)}, {step}")
        return steps

    def watched(self) -> list[Step]:
        """The steps of a run, in which nothing but them changes the folder."""
        last = self.files()

        def compare(is_before: bool) -> None:
            nonlocal last
            now = self.files()
            assert now == last or not is_before, "the folder changed between two steps"
            last = now

        steps = steps_of(self.run, self.folder, between=compare)
        assert self.files() == last == self.expected
        return steps

    def resume(self, when: str) -> None:
        """Give the command of a killed run again."""
        for name, data in self.files().items():
            if name in self.expected:
                assert data in (self.expected[name], self.older.get(name)), f"{when}: {name}"
        try:
            notices = self.run()
        except OutputError as error:
            # Killed so late that there was nothing left to do.
            assert "exists already; add --overwrite" in str(error), f"{when}: {error}"
            assert not self.overwrite, f"{when}: {error}"
            self.ends["complete"] += 1
        else:
            resumed = any("resuming at" in notice for notice in notices)
            self.ends["resumed" if resumed else "begun again"] += 1
        files = self.files()
        assert files.keys() == self.expected.keys(), f"{when}: {sorted(files)}"
        assert files == self.expected, f"{when}: other bytes"


if __name__ == "__main__":
    walk = Walk(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    steps = walk.walk()
    print(json.dumps({"steps": [astuple(step) for step in steps], "ends": walk.ends}))
