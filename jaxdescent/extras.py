"""Packages that are optional, and what to say when they are missing."""

import importlib
from typing import Any


def require(module: str, extra: str) -> Any:
    """Imports a module that an extra of this package brings.

    Raises:
      ImportError: it is not installed; the message says how to install it.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise  # it is there and lacks something of its own
        raise ImportError(
            f"{package} is not installed; install it by pip install 'jaxdescent[{extra}]'"
        ) from error
