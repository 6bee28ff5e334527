"""The studies, one module or package each, and studies in files elsewhere.

A study has a frozen dataclass `Settings`, which becomes its flags and says which of them `--resume`
may change; `run(settings, run)`, which returns `runner.Results`; and optionally `check(settings)`,
which raises an error before the run's folder is made. The first line of its docstring describes it;
the studies of this package must have one.
"""

import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from experiments import runner

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
COMMANDS = ("report", "compare")
"""Words of the command line that are not studies."""


class StudyError(Exception):
    """A study that cannot be loaded; the message is one line that says why."""


def load(name: str) -> ModuleType:
    """Returns the module or package of a study of this package.

    Raises:
      StudyError: its import fails, or it lacks what a study must have.
    """
    study = _imported(f"study {name}", lambda: importlib.import_module(f"{__name__}.{name}"))
    if not (study.__doc__ or "").strip():
        raise StudyError(f"study {name} has no docstring")
    return study


def load_file(path: Path) -> ModuleType:
    """Returns the study in a Python file, whose name is the file's name without its ending.

    The file may import other files of its folder.

    Raises:
      StudyError: there is no such file, its name is the name of another study or command, its
        import fails, or it lacks what a study must have.
    """
    if path.suffix != ".py":
        raise StudyError(f"{path} must be a Python file, whose name ends in .py")
    if not path.is_file():
        hint = f"; did you mean {path.stem}?" if path.stem in NAMES else ""
        raise StudyError(f"there is no file {path}{hint}")
    if path.stem in (*NAMES, *COMMANDS):
        raise StudyError(
            f"{path} must have another name, because experiments has a {path.stem} already"
        )

    def imported() -> ModuleType:
        name = f"study_file_{path.stem}"  # a file may be named like an installed module
        spec: typing.Any = importlib.util.spec_from_file_location(name, path.resolve())
        sys.modules[name] = importlib.util.module_from_spec(spec)
        sys.path.append(str(path.resolve().parent))
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    return _imported(str(path), imported)


def summary(name: str) -> str:
    """Returns the first line of a study's docstring, or why the study cannot be loaded."""
    try:
        return (load(name).__doc__ or "").strip().splitlines()[0]
    except StudyError as error:
        return f"({error})"


def _imported(title: str, import_study: Callable[[], ModuleType]) -> ModuleType:
    """Imports a study and checks what it must have."""
    try:
        study = import_study()
        typing.get_type_hints(getattr(study, "Settings", None) or object)
    except (Exception, SystemExit) as error:  # it may be wrong in any way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StudyError(f"{title} cannot be loaded: {reason}{_place(error, title)}") from error
    kind = getattr(study, "Settings", None)
    if not (dataclasses.is_dataclass(kind) and issubclass(kind, runner.Settings)):  # pyrefly: ignore
        raise StudyError(f"{title} must have a dataclass Settings, a runner.Settings")
    if "__dataclass_fields__" not in vars(kind):
        raise StudyError(
            f"{title}: Settings must have the line @dataclasses.dataclass(frozen=True)"
        )
    if not callable(getattr(study, "run", None)):
        raise StudyError(f"{title} must have a function run(settings, run)")
    return study


def _place(error: BaseException, path: str) -> str:
    """Returns the line of the file at which its import failed, as " (line 3)", or ""."""
    if isinstance(error, SyntaxError):
        return ""  # the message has it
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(Path(path).resolve())
    ]
    return f" (line {lines[-1]})" if lines else ""
