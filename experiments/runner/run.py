"""A run: the folder with all files of one execution of a study.

runs/STUDY/TIMESTAMP/
run.json         settings, versions, device, git commit, status, results
metrics.jsonl    one JSON object per line; metrics.1.jsonl, ... before a series began again
checkpoints/     the newest states and the best evaluation of the series in progress
trajectory/      parameters at a few steps, if the study saves them
outcomes/        outcomes of the finished series
footprint.json   time, energy and FLOPs up to now
*.png            figures
*.fragment.html  interactive figures
report.html      all of this in one file
"""

import copy
import datetime
import fcntl
import json
import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
from matplotlib.figure import Figure

from experiments.runner import processes
from experiments.runner.environment import CODE, environment
from experiments.runner.footprint_log import FootprintLog
from experiments.runner.interruption import Interruption
from experiments.runner.log import Log, write_atomically
from experiments.runner.outcomes import (
    SeriesError,
    check_arguments,
    check_outcome,
    read_outcome,
    to_numpy,
    write_outcome,
)
from experiments.runner.page import DPI
from experiments.runner.progress import Progress
from experiments.runner.run_folder import (
    RunError,
    file_name,
    new_folder,
    read_description,
    saved_settings,
    trajectory_folder,
)
from experiments.runner.settings import (
    Settings,
    changed_settings,
    defaults_to_json,
    settings_to_json,
)
from experiments.runner.study_code import study_change
from experiments.runner.tensorboard import TensorBoard

O = TypeVar("O", bound=tuple[Any, ...])  # noqa: E741


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

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        settings: Settings,
        lock: int | None,
        shared: Path | None = None,
    ):
        self.folder, self.description, self.settings = folder, description, settings
        self.identity: str = description["identity"]
        self._lock, self._shared = lock, shared or folder
        self._tensorboard = _tensorboard(folder) if settings.tensorboard else None
        self.log = Log(folder / "metrics.jsonl", listen=self._tensorboard)
        self.footprint = FootprintLog(folder / "footprint.json")
        self.interruption = Interruption()
        self._before: dict[str, Any] | None = None
        self._finished: set[str] = set()

    @classmethod
    def start(cls, study: str, settings: Settings, file: Path | None = None) -> "Run":
        """Creates the folder and its `run.json`.

        Args:
          study: name of the study.
          settings: settings of the study.
          file: the study's file, unless the study is one of `experiments.studies`.

        Raises:
          OSError: the folder cannot be written.
        """
        return cls._opened(lambda: cls._started(study, settings, file), settings)

    @classmethod
    def _opened(cls, open_run: Callable[[], "Run"], settings: Settings) -> "Run":
        """Returns the run that the first process opens; the other processes work in a copy."""
        if jax.process_count() == 1:
            return open_run()
        run = open_run() if processes.is_first() else None
        folder, description = processes.from_first(
            lambda: [str(run.folder.absolute()), run.description] if run else []
        )
        if run is None:
            shared = Path(folder)
            run = cls(processes.copy_of(shared), description, settings, None, shared)
        processes.wait_for_all("the run is open")
        return run

    @classmethod
    def _started(cls, study: str, settings: Settings, file: Path | None) -> "Run":
        began = _now()
        folder = new_folder(settings.runs / study, began.strftime("%Y-%m-%dT%H-%M-%S"))
        description = {
            "study": study,
            "identity": uuid.uuid4().hex,
            "status": "running",
            "began": began.isoformat(timespec="seconds"),
            "command": _command(),
            "settings": settings_to_json(settings),
            "defaults": defaults_to_json(settings),
            "study_file": str(file.absolute()) if file else None,
            "environment": environment(file),
            "pins": {},
            "resumed": [],
        }
        run = cls(folder, description, settings, _lock(folder))
        run.write_description()
        return run

    @classmethod
    def resume(cls, folder: Path, settings: Settings, file: Path | None = None) -> "Run":
        """Opens a run to continue it, with settings that a resumed run may have.

        A finished run is continued in the same way. Its results stay in `run.json` until they are
        replaced.

        Args:
          folder: the run's folder.
          settings: settings of the study.
          file: the study's file, unless the study is one of `experiments.studies`.

        Raises:
          RunError: the folder is not a run's folder, another process has the run open, or
            `settings.check_resume` does not allow the settings.
          OSError: the folder cannot be written.
        """
        return cls._opened(lambda: cls._resumed(folder, settings, file), settings)

    @classmethod
    def _resumed(cls, folder: Path, settings: Settings, file: Path | None) -> "Run":
        read_description(folder)  # a lock file is made only in a run's folder
        lock = _lock(folder)
        try:
            description = read_description(folder)  # another process may have changed it until now
            saved = saved_settings(type(settings), description)
            try:
                settings.check_resume(saved, folder)
            except ValueError as error:
                raise RunError(f"{error}; start a new run to change it") from error
            run = cls(folder, description, settings, lock)
        except BaseException:
            os.close(lock)
            raise
        run._before = copy.deepcopy(description)
        now, then = environment(file), description["environment"]
        names = [name for name in now if now[name] != then.get(name) and name != CODE]
        if names:
            changed = "; ".join(f"{name} was {then.get(name)}, is {now[name]}" for name in names)
            print(f"the last digits may differ: {changed}", file=sys.stderr)
        change = study_change(folder, file, then)
        if change:
            print(change, file=sys.stderr)
        current = settings_to_json(settings)
        changes = {name: current[name] for name in changed_settings(saved, settings)}
        began = _now().isoformat(timespec="seconds")
        resumed = {"at": began, "command": _command(), "changes": changes, **now}
        description["resumed"].append(resumed)
        description["settings"] = current
        description["study_file"] = str(file.absolute()) if file else None
        description["study_change"] = change
        description["status"] = "running"
        run.write_description()
        return run

    def revert(self) -> None:
        """Writes `run.json` as it was before this process resumed the run.

        For a run that cannot go on, because its data is missing for example. A run that this
        process started is marked as failed instead.
        """
        if self._before is None:
            self.mark("failed")
        else:
            self.description = self._before
            self.write_description()

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
          name: name of the series. A study runs each name once.
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
          SeriesError: the series was already run, `compute` is not a function that returns an
            `outcome_type`, or a field of the outcome is not a number or an array.
        """
        if name in self._finished:
            raise SeriesError(
                f"series {name!r} was already run; names must be unique, "
                "such as f'adam, seed {seed}'"
            )
        check_arguments(name, outcome_type, compute)
        saved = read_outcome(self._outcome_file(name), outcome_type)
        if saved is not None:
            self._finish(name)
            if progress:
                progress.skip(steps)
            return saved
        done, began = progress.done if progress else 0, time.monotonic()
        outcome = self._compute(name, outcome_type, compute)
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

    def _compute(self, name: str, outcome_type: Any, compute: Callable[[], Any]) -> Any:
        """Computes an outcome and saves it."""
        self.interruption.check()
        computed = compute()
        check_outcome(name, outcome_type, computed)
        outcome = to_numpy(computed, f"series {name!r}")
        write_outcome(self._outcome_file(name), outcome, series=name, code=self._code)
        self._finish(name)
        self.footprint.save()
        return outcome

    @property
    def _code(self) -> str:
        """The digest of the study's file, which computes the series of this process."""
        now = self.description["resumed"][-1:] or [self.description["environment"]]
        return now[0].get(CODE, "")

    def _finish(self, name: str) -> None:
        """Removes the checkpoints of a series with a saved outcome.

        A run that was killed after it saved the outcome still has them.
        """
        self._finished.add(name)
        if processes.is_first():
            shutil.rmtree(self.checkpoints_folder(name), ignore_errors=True)

    def _outcome_file(self, name: str) -> Path:
        return self.folder / "outcomes" / f"{file_name(name)}.npz"

    def checkpoints_folder(self, series: str) -> Path:
        """Returns the folder of the checkpoints of a series."""
        return self._shared / "checkpoints" / file_name(series)

    def trajectory_folder(self, series: str) -> Path:
        """Returns the folder of the trajectory of a series."""
        return trajectory_folder(self.folder, series)

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Saves a figure as `name.png`, completely or not at all.

        In the file's name, `_` and a digest replace what names of files do not allow. To add a
        figure to a run that is finished, use `runner.add_figure`.
        """
        return write_figure(self.folder, name, figure)

    def save_fragment(self, name: str, html: str) -> Path:
        """Saves HTML that the report includes, as `name.fragment.html`."""
        path = self.folder / f"{file_name(name)}.fragment.html"
        write_atomically(path, html)
        return path

    def close(self) -> None:
        """Releases the folder for other processes."""
        if self._tensorboard:
            self._tensorboard.close()
        if self._lock is None:
            processes.discard(self.folder)
        else:
            os.close(self._lock)


def write_figure(folder: Path, name: str, figure: Figure) -> Path:
    """Writes a figure to a run's folder, as `Run.save_figure` does."""
    path = folder / f"{file_name(name)}.png"
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, dpi=DPI, format="png")
    partial.replace(path)
    return path


def _command() -> str:
    return f"python -m experiments {shlex.join(sys.argv[1:])}".rstrip()


def _tensorboard(folder: Path) -> TensorBoard:
    """Returns the writer of the metrics, which has the earlier records, too."""
    is_new = not (folder / "tensorboard").exists()
    writer = TensorBoard(folder / "tensorboard")
    for record in Log(folder / "metrics.jsonl").read() if is_new else ():
        writer(record)
    return writer


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def _lock(folder: Path) -> int:
    """Locks a file in the folder, which the system unlocks when the process ends."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RunError(f"{folder} is in use by another process; end that process first") from error
    except OSError:
        os.close(lock)
        raise
    return lock
