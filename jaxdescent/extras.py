"""Imports of optional packages."""

import importlib
from typing import Any


class MissingPackageError(ImportError):
    """An optional package is not installed; the message is one line that says how to install it."""


def require(module: str, extra: str) -> Any:
    """Imports a module that one of this package's extras installs.

    Args:
      module: the module's name, such as "zeus.monitor".
      extra: the extra that installs it, such as "energy".

    Raises:
      MissingPackageError: the module's package is not installed.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise  # the package is installed, but a dependency of it is missing
        raise MissingPackageError(
            f"{package} is not installed; install it with: pip install 'jaxdescent[{extra}]'"
        ) from error
