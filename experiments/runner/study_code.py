"""Finds the finished series of a run that an older version of the study's file computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runner.environment import CODE, digest
from experiments.runner.outcomes import saved_series

_SHOWN = 3  # names of series in the message


def study_change(folder: Path, file: Path | None, then: Mapping[str, Any]) -> str:
    """Returns a message if the study's file has changed since the run began, else an empty text.

    Args:
      folder: the run's folder.
      file: the study's file, or None for a study of `experiments.studies`.
      then: the environment when the run began.
    """
    if file is None:
        return ""
    began, now = then.get(CODE, ""), digest(file)
    old = [name for name, code in saved_series(folder / "outcomes") if (code or began) != now]
    if began == now and not old:
        return ""
    names = "; ".join(old[:_SHOWN]) + ("; ..." if len(old) > _SHOWN else "")
    count = f"{len(old)} finished series" + (f" ({names})" if old else "")
    verb = "comes" if len(old) == 1 else "come"
    in_progress = any((folder / "checkpoints").glob("*/*"))
    more = ", and the series in progress continues from its checkpoint" if in_progress else ""
    return (
        f"{file.name} has changed since this run began; {count} {verb} from the old file{more}. "
        "Start a new run if the change can alter results."
    )
