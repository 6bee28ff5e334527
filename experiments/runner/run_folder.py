"""The folder of a run, for those who only read it: its files, its description, the newest one."""

import contextlib
import datetime
import glob
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runner.settings import S, settings_from_json


class RunError(Exception):
    """A run's folder cannot be used; the message is one line that says what to do."""


def steps_done(folder: Path) -> int:
    """Returns the number of steps in the newest checkpoint of a run; 0 without checkpoints."""
    names = [path.name for path in folder.glob("checkpoints/*/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def trajectory_folder(folder: Path, series: str) -> Path:
    """Returns the folder of the trajectory of a series, for any run's folder."""
    return folder / "trajectory" / file_name(series)


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
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}; restore it, or start a new run") from error
    description = content if isinstance(content, dict) else {}
    missing = [
        name for name, kind in _FIELDS.items() if not isinstance(description.get(name), kind)
    ]
    if missing:
        raise RunError(
            f"{path} is not a run's description: it lacks {', '.join(missing)}; restore it, or "
            "start a new run"
        )
    return description


def resume_command(description: Mapping[str, Any], folder: Path) -> str:
    """Returns the command that resumes a run."""
    study = description.get("study_file") or description["study"]
    return shlex.join(["python", "-m", "experiments", study, "--resume", str(folder)])


def newest_run(runs: Path, study: str = "") -> Path:
    """Returns the folder of the newest run of a study, or of any study; skips damaged runs.

    Raises:
      RunError: the folder holds no run.
    """
    pattern = glob.escape(study) if study else "*"
    found = []
    for path in runs.glob(f"{pattern}/*/run.json"):
        with contextlib.suppress(RunError, ValueError, OverflowError):
            began = datetime.datetime.fromisoformat(read_description(path.parent)["began"])
            # Runs that began in the same second are named NAME, NAME_1, ..., NAME_10.
            found.append((began.timestamp(), len(path.parent.name), path.parent.name, path.parent))
    if not found:
        what = f"runs of {study}" if study else "runs"
        raise RunError(
            f"{runs.absolute()} has no {what}; name the folder of a run, "
            "or say with --runs where the runs are"
        )
    return max(found)[-1]


def saved_settings(settings_type: type[S], description: Mapping[str, Any]) -> S:
    """Returns the settings of a run; a setting that was added later has its default.

    Raises:
      RunError: the settings are no longer allowed.
    """
    try:
        return settings_from_json(settings_type, description["settings"])
    except (TypeError, ValueError) as error:
        raise RunError(f"the run's settings are no longer allowed: {error}") from error


def file_name(name: str) -> str:
    """Returns a valid file name, with a digest of the name if characters are replaced.

    Raises:
      ValueError: the name is not a text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a text with at least one character, got {name!r}")
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
