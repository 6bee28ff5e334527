"""The footprint of a run up to now: time, energy and FLOPs, summed over its sessions.

A session lasts from a start or a resume to the end of the process. Each session has its own
part in `footprint.json`, written with each checkpoint: if a run is killed, only the part since
its last checkpoint is missing. Work that is repeated after a kill is counted again.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jaxdescent as jd
from experiments.runner.log import write_atomically
from experiments.runner.stepping import Program

_ROWS: dict[str, Literal["total", "dense"]] = {
    "training FLOPs": "total",
    "of them in matrix products and convolutions": "dense",
}


class FootprintLog:
    """Counts what a session uses; its clock starts when it is constructed.

    Args:
      path: the file, which may already have the parts of earlier sessions.
    """

    def __init__(self, path: Path):
        self._path = path
        self._earlier = _read(path)
        self._programs: dict[str, Program] = {}
        self._steps: Counter[str] = Counter()
        self._meter = jd.footprint.meter().start()

    def count(self, series: str, program: Program) -> None:
        """Adds a chunk of a series."""
        self._programs[series] = program
        self._steps[series] += program.steps_per_chunk

    def save(self) -> None:
        """Writes the file."""
        part = self._meter.read()
        for series, program in self._programs.items():
            calls = self._steps[series] / program.steps_per_chunk
            for name, kind in _ROWS.items():
                flops = program.flops.quantity(kind).times(calls, "all steps of all seeds")
                part = part.adding(name, part[name] + flops if name in part else flops)
        per_step = {
            series: program.flops.total / program.steps_per_chunk
            for series, program in self._programs.items()
        }
        content = {
            "parts": [*self._earlier["parts"], part.as_dict()],
            "flops_per_step": {**self._earlier["flops_per_step"], **per_step},
        }
        write_atomically(self._path, json.dumps(content, indent=2) + "\n")


def read_footprint(folder: Path, *, constants: bool = True) -> dict[str, str]:
    """Returns the run's footprint as text by quantity; each number says how it was obtained.

    Args:
      folder: the run's folder.
      constants: whether to name the constants that were used, and what is left out.
    """
    parts = [jd.footprint.Footprint.from_dict(part) for part in _read_run(folder)["parts"]]
    if not parts:
        return {}
    total: jd.footprint.Footprint = sum(parts[1:], start=parts[0])
    if not constants:
        return {row.name: f"{row.value} ({row.how})" for row in total.rows()}
    rows = {
        row.name: f"{row.value} ({row.how})" + (f"; {row.constants}" if row.constants else "")
        for row in total.rows()
    }
    left_out = [*total.notes, "not counted: evaluations, and what a compiler adds or saves"]
    return {**rows, "left out": "; ".join(left_out)}


def flops_per_step(folder: Path) -> dict[str, float]:
    """Returns the FLOPs of a step over all seeds, by series of the run in the folder."""
    return _read_run(folder)["flops_per_step"]


def _read_run(folder: Path) -> Mapping[str, Any]:
    return _read(folder / "footprint.json")


def _read(path: Path) -> Mapping[str, Any]:
    """Returns the file's content, which is empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        parts = [jd.footprint.Footprint.from_dict(part).as_dict() for part in content["parts"]]
        per_step = {name: float(flops) for name, flops in content["flops_per_step"].items()}
        return {"parts": parts, "flops_per_step": per_step}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"parts": [], "flops_per_step": {}}
