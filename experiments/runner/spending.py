"""What a run has spent until now: time, energy and arithmetic, over all its sessions.

Each session (a start, or a resumption) has its own part of the bill, written with each
checkpoint, so that of a run that is killed only what came after the last one is missing.
Work that is done again after a kill is counted again, since it was spent again.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jaxdescent as jd
from experiments.runner.log import write_whole
from experiments.runner.stepping import Program

_ROWS: dict[str, Literal["total", "dense"]] = {
    "training FLOPs": "total",
    "of them in matrix products and convolutions": "dense",
}


class Spending:
    """The bill of a run; its clock starts when it is made.

    Args:
      path: of the file, with the parts of earlier sessions if there were any.
    """

    def __init__(self, path: Path):
        self._path = path
        self._earlier = _read(path)
        self._programs: dict[str, Program] = {}
        self._steps: Counter[str] = Counter()
        self._meter = jd.footprint.meter().start()

    def count(self, line: str, program: Program) -> None:
        """Adds a chunk of a line."""
        self._programs[line] = program
        self._steps[line] += program.steps_per_chunk

    def save(self) -> None:
        """Writes the bill."""
        part = self._meter.read()
        for line, program in self._programs.items():
            calls = self._steps[line] / program.steps_per_call
            for name, kind in _ROWS.items():
                spent = program.flops.quantity(kind).times(calls, "all steps of all seeds")
                part = part.adding(name, part[name] + spent if name in part else spent)
        per_step = {
            line: program.flops.total / program.steps_per_call
            for line, program in self._programs.items()
        }
        content = {
            "parts": [*self._earlier["parts"], part.as_dict()],
            "flops_per_step": {**self._earlier["flops_per_step"], **per_step},
        }
        write_whole(self._path, json.dumps(content, indent=2) + "\n")


def spent(folder: Path, *, constants: bool = True) -> dict[str, str]:
    """What the run in a folder has spent, in words: each number says how it came about.

    Args:
      folder: the run's.
      constants: whether to name the constants that went in, and what is left out.
    """
    parts = [jd.footprint.Footprint.from_dict(part) for part in _read_run(folder)["parts"]]
    if not parts:
        return {}
    whole: jd.footprint.Footprint = sum(parts[1:], start=parts[0])
    if not constants:
        return {row.name: f"{row.name} {row.value} ({row.how})" for row in whole.rows()}
    lines = {
        row.name: f"{row.value} ({row.how})" + (f"; {row.constants}" if row.constants else "")
        for row in whole.rows()
    }
    left_out = [*whole.notes, "not counted: evaluations, and what a compiler adds or saves"]
    return {**lines, "left out": "; ".join(left_out)}


def flops_per_step(folder: Path) -> dict[str, float]:
    """The FLOPs of a step, all seeds, of each line of the run in a folder."""
    return _read_run(folder)["flops_per_step"]


def _read_run(folder: Path) -> Mapping[str, Any]:
    return _read(folder / "footprint.json")


def _read(path: Path) -> Mapping[str, Any]:
    """The file's content; a bill of nothing if it is not there or damaged."""
    try:
        content = json.loads(path.read_bytes())
        parts = [jd.footprint.Footprint.from_dict(part).as_dict() for part in content["parts"]]
        per_step = {str(line): float(flops) for line, flops in content["flops_per_step"].items()}
        return {"parts": parts, "flops_per_step": per_step}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"parts": [], "flops_per_step": {}}
