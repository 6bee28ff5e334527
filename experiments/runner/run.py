"""A run: the folder with all files of one execution of a study.

runs/STUDY/TIMESTAMP/
run.json         settings, versions, device, git commit, status, results
metrics.jsonl    one JSON object per line
checkpoints/     the newest states and the best evaluation of the series in progress
trajectory/      parameters at a few steps, if the study saves them
outcomes/        outcomes of the finished series
footprint.json   time, energy and FLOPs up to now
*.png            figures
*.fragment.html  interactive figures
report.html      all of this in one file
"""

import datetime
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from matplotlib.figure import Figure

from experiments.runner.environment import environment
from experiments.runner.footprint_log import FootprintLog
from experiments.runner.interruption import Interruption
from experiments.runner.log import Log, write_atomically
from experiments.runner.outcomes import read_outcome, to_numpy, write_outcome
from experiments.runner.progress import Progress
from experiments.runner.settings import (
    NOT_IN_RESULTS,
    S,
    Settings,
    settings_from_json,
    settings_to_json,
)
from experiments.runner.tensorboard import TensorBoard

O = TypeVar("O", bound=tuple[Any, ...])  # noqa: E741


class RunError(Exception):
    """A run's folder cannot be used; the message is one line that says what to do."""


class Run:
    """An open run, which only one process at a time can have. Use `start` or `resume`.

    Attributes:
      folder: folder of the run's files.
      description: content of `run.json`.
      identity: unique name of the run, which its checkpoints carry.
      settings: settings of the study.
      log: the metrics.
      footprint: time, energy and FLOPs up to now.
      interruption: tells whether a signal asked the run to stop.
    """

    def __init__(self, folder: Path, description: dict[str, Any], settings: Settings):
        self.folder, self.description, self.settings = folder, description, settings
        self.identity: str = description["identity"]
        self._lock = _lock(folder)
        self._tensorboard = TensorBoard(folder / "tensorboard") if settings.tensorboard else None
        self.log = Log(folder / "metrics.jsonl", listen=self._tensorboard)
        self.footprint = FootprintLog(folder / "footprint.json")
        self.interruption = Interruption()

    @classmethod
    def start(cls, study: str, settings: Settings) -> "Run":
        """Creates the folder and its `run.json`.

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
            "settings": settings_to_json(settings),
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
          RunError: the folder is not a run's folder, or the settings differ.
          OSError: the folder cannot be written.
        """
        description = read_description(folder)
        current, saved = settings_to_json(settings), description["settings"]
        for name in current:
            if name in saved and current[name] != saved[name] and name not in NOT_IN_RESULTS:
                raise RunError(
                    f"{name} must be {saved[name]}, as when {folder} was started, "
                    f"got {current[name]}; start a new run to change it"
                )
        run = cls(folder, description, settings)
        now, then = environment(), description["environment"]
        changed = [f"{k} was {then.get(k)}, is {now[k]}" for k in now if now[k] != then.get(k)]
        if changed:
            print(f"the last digits may differ: {'; '.join(changed)}", file=sys.stderr)
        description["resumed"].append({"at": _now().isoformat(timespec="seconds"), **now})
        description["status"] = "running"
        run.write_description()
        return run

    def write_description(self) -> None:
        """Writes `run.json`."""
        write_atomically(self.folder / "run.json", json.dumps(self.description, indent=2) + "\n")

    def pin(self, name: str, value: str) -> None:
        """Requires the value, for example the digest of the data, to stay the same on resume.

        Raises:
          RunError: the run was started with another value.
        """
        pinned = self.description["pins"].setdefault(name, value)
        if pinned != value:
            raise RunError(
                f"{name} must be the same as when {self.folder} was started; restore it to resume"
            )
        self.write_description()

    def mark(self, status: Literal["finished", "interrupted", "failed"]) -> None:
        """Writes to `run.json` how the run ended."""
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

        A series is finished when its outcome is saved; then its checkpoints are removed. A run
        that is killed earlier continues the series from its newest checkpoint, or starts it
        again.

        Args:
          name: name of the series, unique in the study.
          outcome_type: NamedTuple type of the outcome. Its fields are numbers, arrays, None,
            mappings of these by name, or NamedTuples of these. A saved outcome with other
            fields is computed again.
          compute: called without arguments; returns the outcome.
          progress: skips the steps of a saved outcome, and is advanced by the steps of a
            computed one with the measured time. If `compute` advances it, as a `Loop` does,
            only the steps that `compute` left out are added, as skipped.
          steps: number of steps of the series.
          loss: called with the outcome; returns the loss that the progress shows.

        Returns:
          The outcome; its numbers and arrays are NumPy arrays.

        Raises:
          Interrupted: there is no saved outcome, and a signal asked the run to stop.
        """
        saved = read_outcome(self._outcome_file(name), outcome_type)
        if saved is not None:
            self._remove_checkpoints(name)  # still there if the run was killed before it did so
            if progress:
                progress.skip(steps)
            return saved
        done, began = progress.done if progress else 0, time.monotonic()
        outcome = self._compute(name, compute)
        seconds = time.monotonic() - began
        if progress is None or not steps:
            return outcome
        if progress.done > done:
            progress.skip(max(0, steps - (progress.done - done)))
        else:
            progress.advance(
                name,
                steps=steps,
                loss=None if loss is None else float(loss(outcome)),
                steps_per_second=steps / max(seconds, 1e-9),
            )
        return outcome

    def _compute(self, name: str, compute: Callable[[], Any]) -> Any:
        """Computes an outcome and saves it."""
        self.interruption.check()
        outcome = to_numpy(compute())
        write_outcome(self._outcome_file(name), outcome)
        self._remove_checkpoints(name)
        self.footprint.save()
        return outcome

    def _remove_checkpoints(self, name: str) -> None:
        shutil.rmtree(self.checkpoints_folder(name), ignore_errors=True)

    def _outcome_file(self, name: str) -> Path:
        return self.folder / "outcomes" / f"{_file_name(name)}.npz"

    def checkpoints_folder(self, series: str) -> Path:
        """Returns the folder of the checkpoints of a series."""
        return self.folder / "checkpoints" / _file_name(series)

    def trajectory_folder(self, series: str) -> Path:
        """Returns the folder of the trajectory of a series."""
        return trajectory_folder(self.folder, series)

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Saves a figure as `name.png`."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        return path

    def save_fragment(self, name: str, html: str) -> Path:
        """Saves HTML that the report includes, as `name.fragment.html`."""
        path = self.folder / f"{name}.fragment.html"
        write_atomically(path, html)
        return path

    def close(self) -> None:
        """Releases the folder for other processes."""
        if self._tensorboard:
            self._tensorboard.close()
        os.close(self._lock)


def trajectory_folder(folder: Path, series: str) -> Path:
    """Returns the folder of the trajectory of a series, for any run's folder."""
    return folder / "trajectory" / _file_name(series)


_FIELDS: dict[str, type] = {
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
    """Returns the content of a run's `run.json`.

    Raises:
      RunError: the folder is not a run's folder.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{folder} is not a run's folder: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; it cannot be used") from error
    description = content if isinstance(content, dict) else {}
    missing = [
        name for name, kind in _FIELDS.items() if not isinstance(description.get(name), kind)
    ]
    if missing:
        raise RunError(f"{path} is not a run's description: it lacks {', '.join(missing)}")
    return description


def saved_settings(settings_type: type[S], description: Mapping[str, Any]) -> S:
    """Returns the settings of a run; a setting that was added later has its default.

    Raises:
      RunError: the settings are no longer allowed.
    """
    try:
        return settings_from_json(settings_type, description["settings"])
    except (TypeError, ValueError) as error:
        raise RunError(f"the run's settings are no longer allowed: {error}") from error


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def _lock(folder: Path) -> int:
    """Locks a file in the folder, which the system unlocks when the process ends."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise RunError(f"{folder} is in use by another process; end that process first") from error
    return lock


def _file_name(name: str) -> str:
    """Returns a valid file name, with a digest of the name if characters are replaced."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def new_folder(parent: Path, name: str) -> Path:
    """Creates a new folder, with a suffix if several processes start in the same second."""
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1000):
        folder = parent / (name if attempt == 0 else f"{name}_{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent / name} and 999 more exist already")
