"""The studies, one module or package each.

A study has a docstring, whose first line the command line lists; a frozen dataclass `Settings`,
which becomes its flags and says which of them `--resume` may change; `run(settings, run)`, which
returns `runner.Results`; and optionally `check(settings)`, which raises an error before the run's
folder is made.
"""

import dataclasses
import importlib
import pkgutil
import typing
from types import ModuleType

from experiments import runner

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


class StudyError(Exception):
    """A study that cannot be loaded; the message is one line that says why."""


def load(name: str) -> ModuleType:
    """Returns the module or package of a study.

    Raises:
      StudyError: its import fails, or it lacks what a study must have.
    """
    try:
        study = importlib.import_module(f"{__name__}.{name}")
        typing.get_type_hints(getattr(study, "Settings", None) or object)
    except (Exception, SystemExit) as error:  # it may be wrong in any way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StudyError(f"study {name} cannot be loaded: {reason}") from error
    if not (study.__doc__ or "").strip():
        raise StudyError(f"study {name} has no docstring")
    kind = getattr(study, "Settings", None)
    if not (dataclasses.is_dataclass(kind) and issubclass(kind, runner.Settings)):  # pyrefly: ignore
        raise StudyError(f"study {name} must have a dataclass Settings, a runner.Settings")
    if not callable(getattr(study, "run", None)):
        raise StudyError(f"study {name} must have a function run(settings, run)")
    return study


def summary(name: str) -> str:
    """Returns the first line of a study's docstring, or why the study cannot be loaded."""
    try:
        return (load(name).__doc__ or "").strip().splitlines()[0]
    except StudyError as error:
        return f"({error})"
