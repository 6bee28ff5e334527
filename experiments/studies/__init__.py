"""The studies, one module or package each.

A study has a docstring, whose first line the command line lists; a frozen dataclass `Settings`,
which becomes its flags; `run(settings, run)`, which returns `runner.Results`; and optionally
`check(settings)`, which raises an error before the run's folder is made.
"""

import importlib
import pkgutil
from types import ModuleType

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """Returns the module or package of a study."""
    return importlib.import_module(f"{__name__}.{name}")


def summary(name: str) -> str:
    """Returns the first line of a study's docstring."""
    return (load(name).__doc__ or "").splitlines()[0]
