"""A run: a folder with the settings, the environment, metrics and pictures of one study.

runs/STUDY/TIMESTAMP/
run.json        settings, versions, device, git commit
metrics.jsonl   one JSON object a line
*.png           pictures
report.html     all of it in one file
"""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every study can be told."""

    scale: Literal["smoke", "small", "full"] = "small"
    """smoke: seconds; small: up to minutes on two cores; full: as published, or longer."""
    seed: int = 0
    """From which all random numbers are drawn."""
    runs: Path = Path("runs")
    """Folder under which the run's own folder is made."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in [0, 4294967296), got {self.seed}")


class Results(NamedTuple):
    """What a study found.

    Attributes:
      title: of the report.
      columns: the table's head.
      rows: the table's cells, as they are printed.
      notes: sentences that belong with the table.
      values: the numbers behind the table, for `run.json`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    values: Mapping[str, Any]


class Run(NamedTuple):
    """An open run.

    Attributes:
      folder: where its files are.
      description: the content of `run.json`.
    """

    folder: Path
    description: dict[str, Any]

    @classmethod
    def start(cls, study: str, settings: Settings) -> "Run":
        """Makes the folder and writes what is known before the run.

        Raises:
          OSError: the folder cannot be written.
        """
        began = datetime.datetime.now().astimezone()
        folder = _new_folder(settings.runs / study, began.strftime("%Y-%m-%dT%H-%M-%S"))
        description = {
            "study": study,
            "began": began.isoformat(timespec="seconds"),
            "command": " ".join(["python -m experiments", *sys.argv[1:]]),
            "settings": {k: jsonable(v) for k, v in dataclasses.asdict(settings).items()},
            "environment": environment(),
        }
        run = cls(folder, description)
        run.write_description()
        return run

    def write_description(self) -> None:
        """Writes `run.json`, whole or not at all."""
        partial = self.folder / "run.json.partial"
        partial.write_text(json.dumps(self.description, indent=2) + "\n")
        partial.rename(self.folder / "run.json")

    def log(self, **metrics: Any) -> None:
        """Appends a line to `metrics.jsonl`; numbers that are not finite become null."""
        record = {name: jsonable(value) for name, value in metrics.items()}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Saves a figure as `name.png`."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        return path


def _new_folder(parent: Path, name: str) -> Path:
    """Makes a folder that was not there before, whoever else starts at the same second."""
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1000):
        folder = parent / (name if attempt == 0 else f"{name}_{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent / name} and 999 more exist already")


def jsonable(value: Any) -> Any:
    """The value in JSON's own types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return jsonable(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (int, str, bool, type(None))) else str(value)


_PACKAGES = ("jaxdescent", "jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Versions, device and commit: what somebody needs to run the same again."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of the code, with a word if the files differ from it."""
    here = Path(__file__).parent
    ask = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(ask, cwd=here, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: git does not answer"
    return answer.stdout.strip() if answer.returncode == 0 else "unknown: not in a git checkout"
