"""The studies, one file each: a frozen dataclass `Settings` and `run(settings, run)`."""

import importlib
import pkgutil
from types import ModuleType

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The study's module."""
    return importlib.import_module(f"{__name__}.{name}")


def summary(name: str) -> str:
    """The first line of the study's docstring."""
    return (load(name).__doc__ or "").splitlines()[0]
