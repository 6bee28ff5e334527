"""A run: a folder with all there is of one study.

runs/STUDY/TIMESTAMP/
run.json        settings, versions, device, git commit, status, results
metrics.jsonl   one JSON object a line
checkpoints/    the newest states of the line that is running, and its best
trajectory/     parameters at a few steps, where a study keeps them
outcomes/       what lines came to that are done
footprint.json  what the run has spent until now
*.png           pictures
*.fragment.html  pictures that can be turned
report.html     all of it in one file
"""

import dataclasses
import datetime
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure

from experiments.runner.environment import environment
from experiments.runner.interruption import Interruption
from experiments.runner.log import Log, jsonable, write_whole
from experiments.runner.outcomes import read_outcome, to_numpy, write_outcome
from experiments.runner.progress import Progress
from experiments.runner.spending import Spending
from experiments.runner.tensorboard import TensorBoard


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every study can be told."""

    scale: Literal["smoke", "small", "full"] = "small"
    """smoke: seconds; small: up to minutes on two cores; full: as published, or longer."""
    seed: int = 0
    """From which all random numbers are drawn."""
    runs: Path = Path("runs")
    """Folder under which the run's own folder is made."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    keep: int = 2
    """Checkpoints that are kept, besides the best evaluation in each."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard, too, under the run's folder."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in [0, 4294967296), got {self.seed}")
        if not self.save_every >= 0:
            raise ValueError(f"--save-every must be in [0, inf), got {self.save_every}")
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ValueError(
                "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'"
            )
        if self.keep < 1:
            raise ValueError(f"--keep must be in [1, inf), got {self.keep}")


# Settings that no number depends on: a run may be moved, and go on with others.
WHERE_AND_WHEN = ("runs", "save_every", "keep", "tensorboard")


S = TypeVar("S", bound=Settings)
O = TypeVar("O", bound=tuple[Any, ...])  # noqa: E741


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


class RunError(Exception):
    """A run's folder that cannot be used; the message is one line that says what to do."""


class Run:
    """An open run. Made by `start` or `resume`; one process at a time has it.

    Attributes:
      folder: where its files are.
      description: the content of `run.json`.
      identity: of this run alone, for its checkpoints.
      settings: the study's.
      log: the metrics.
      spending: time, energy and arithmetic until now.
      interruption: whether somebody asked the run to stop.
    """

    def __init__(self, folder: Path, description: dict[str, Any], settings: Settings):
        self.folder, self.description, self.settings = folder, description, settings
        self.identity: str = description["identity"]
        self._lock = _lock(folder)
        self._tensorboard = TensorBoard(folder / "tensorboard") if settings.tensorboard else None
        self.log = Log(folder / "metrics.jsonl", listen=self._tensorboard)
        self.spending = Spending(folder / "footprint.json")
        self.interruption = Interruption()

    @classmethod
    def start(cls, study: str, settings: Settings) -> "Run":
        """Makes the folder and writes what is known before the run.

        Raises:
          OSError: the folder cannot be written.
        """
        began = _now()
        folder = new_folder(settings.runs / study, began.strftime("%Y-%m-%dT%H-%M-%S"))
        description = {
            "study": study,
            "identity": uuid.uuid4().hex,
            "status": "running",
            "began": began.isoformat(timespec="seconds"),
            "command": " ".join(["python -m experiments", *sys.argv[1:]]),
            "settings": _jsonable_settings(settings),
            "environment": environment(),
            "pins": {},
            "resumed": [],
        }
        run = cls(folder, description, settings)
        run.write_description()
        return run

    @classmethod
    def resume(cls, folder: Path, settings: Settings) -> "Run":
        """Opens a run that was started with the same settings.

        Raises:
          RunError: there is no such run, or its settings were others.
          OSError: the folder cannot be written.
        """
        description = read_description(folder)
        now, then = _jsonable_settings(settings), description["settings"]
        for name in now:
            if name in then and now[name] != then[name] and name not in WHERE_AND_WHEN:
                raise RunError(
                    f"{folder} was started with {name} = {then.get(name)}, which is now "
                    f"{now.get(name)}; a run goes on with its own settings"
                )
        run = cls(folder, description, settings)
        here, there = environment(), description["environment"]
        changed = [f"{k} was {there.get(k)}, is {here[k]}" for k in here if here[k] != there.get(k)]
        if changed:
            print(f"the last digits may differ: {'; '.join(changed)}", file=sys.stderr)
        description["resumed"].append({"at": _now().isoformat(timespec="seconds"), **here})
        description["status"] = "running"
        run.write_description()
        return run

    def write_description(self) -> None:
        """Writes `run.json`, whole or not at all."""
        write_whole(self.folder / "run.json", json.dumps(self.description, indent=2) + "\n")

    def pin(self, name: str, value: str) -> None:
        """Notes what must be the same when the run is resumed, the digest of its data say.

        Raises:
          RunError: it was another.
        """
        known = self.description["pins"].setdefault(name, value)
        if known != value:
            raise RunError(
                f"{self.folder} was started with another {name}; bring that back to go on"
            )
        self.write_description()

    def mark(self, status: Literal["finished", "interrupted", "failed"]) -> None:
        """Says in `run.json` how the run ended."""
        self.description["status"] = status
        self.write_description()

    def series(
        self,
        name: str,
        outcome_type: type[O],
        compute: Callable[[], O],
        *,
        progress: Progress | None = None,
        steps: int = 0,
        loss: Callable[[O], Any] | None = None,
    ) -> O:
        """Returns the outcome of a series: read if it was saved before, else computed and saved.

        The series is done when its outcome is saved; its checkpoints are removed then. A run
        that is killed before goes on from the newest checkpoint, or begins the series again.

        Args:
          name: of the series, unique in its study.
          outcome_type: a NamedTuple; its fields are numbers, arrays, None, mappings of these by
            name, or NamedTuples of these. A saved outcome with other fields is computed again.
          compute: returns the outcome.
          progress: counts the steps of a saved outcome as skipped and those of a computed one
            as made in the measured time. Steps that `compute` counted itself, as a `Loop`
            does, are not counted twice; steps that it left out are skipped.
          steps: of the series, in the unit of the progress.
          loss: computes from the outcome the number that the progress shows.

        Returns:
          The outcome, with NumPy arrays in place of numbers and arrays.

        Raises:
          Interrupted: the run was asked to stop, and there is no saved outcome.
        """
        path = self._outcome_file(name)
        saved = read_outcome(path, outcome_type)
        if saved is not None:
            if progress:
                progress.skip(steps)
            return saved
        counted, began = progress.done if progress else 0, time.monotonic()
        outcome = self._compute(name, compute)
        seconds = time.monotonic() - began
        if progress:
            counted = progress.done - counted
            if counted:
                progress.skip(max(0, steps - counted))
            elif steps:
                progress.advance(
                    name,
                    steps=steps,
                    loss=None if loss is None else float(loss(outcome)),
                    steps_per_second=steps / max(seconds, 1e-9),
                )
        return outcome

    def once(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns what `series` does, by name; goes when every study has its outcome type."""
        saved = read_outcome(self._outcome_file(name), dict)
        return self._compute(name, compute) if saved is None else saved

    def _compute(self, name: str, compute: Callable[[], Any]) -> Any:
        """Computes an outcome and saves it."""
        self.interruption.check()
        outcome = to_numpy(compute())
        write_outcome(self._outcome_file(name), outcome)
        shutil.rmtree(self.checkpoints_folder(name), ignore_errors=True)
        self.spending.save()
        return outcome

    def _outcome_file(self, name: str) -> Path:
        return self.folder / "outcomes" / f"{_file_name(name)}.npz"

    def checkpoints_folder(self, line: str) -> Path:
        """Where the checkpoints of a line are."""
        return self.folder / "checkpoints" / _file_name(line)

    def trajectory_folder(self, line: str) -> Path:
        """Where the path of a line is."""
        return trajectory_folder(self.folder, line)

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Saves a figure as `name.png`."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        return path

    def save_fragment(self, name: str, html: str) -> Path:
        """Saves a piece of HTML that the report shows, as `name.fragment.html`."""
        path = self.folder / f"{name}.fragment.html"
        write_whole(path, html)
        return path

    def close(self) -> None:
        """Gives the folder free for another process."""
        if self._tensorboard:
            self._tensorboard.close()
        os.close(self._lock)


def trajectory_folder(folder: Path, line: str) -> Path:
    """Where the path of a line is, of any run."""
    return folder / "trajectory" / _file_name(line)


_CONTENT: dict[str, type] = {
    "study": str,
    "identity": str,
    "status": str,
    "began": str,
    "command": str,
    "settings": dict,
    "environment": dict,
    "pins": dict,
    "resumed": list,
}


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a run's `run.json`.

    Raises:
      RunError: the folder is no run's.
    """
    path = folder / "run.json"
    try:
        description = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{folder} is no run's folder: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; it cannot be used") from error
    said = description if isinstance(description, dict) else {}
    missing = [name for name, kind in _CONTENT.items() if not isinstance(said.get(name), kind)]
    if missing:
        raise RunError(f"{path} is no run's: it does not say {', '.join(missing)}")
    return said


def saved_settings(settings_type: type[S], description: Mapping[str, Any]) -> S:
    """The settings that a run was started with; what is new since then has its default.

    Raises:
      RunError: the settings are no longer allowed.
    """
    hints = typing.get_type_hints(settings_type)
    fields = {field.name for field in dataclasses.fields(settings_type)}
    values: dict[str, Any] = {
        name: Path(value) if value is not None and "Path" in str(hints[name]) else value
        for name, value in description["settings"].items()
        if name in fields
    }
    try:
        return settings_type(**values)
    except (TypeError, ValueError) as error:
        raise RunError(f"the run's settings are not allowed any more: {error}") from error


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def _jsonable_settings(settings: Settings) -> dict[str, Any]:
    """The settings in JSON's types, paths so that they hold from any folder."""
    return {
        name: str(value.absolute()) if isinstance(value, Path) else jsonable(value)
        for name, value in dataclasses.asdict(settings).items()
    }


def _lock(folder: Path) -> int:
    """A file that the system unlocks when the process ends, however it does."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise RunError(f"{folder} is in use by another process; end that one first") from error
    return lock


def _file_name(name: str) -> str:
    """The name with a file system's own characters replaced, told apart by a digest."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def new_folder(parent: Path, name: str) -> Path:
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
