"""The environment of a run: versions, device and commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

_PACKAGES = ("jaxdescent", "jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Returns versions, device and commit, which are needed to reproduce the run."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # jaxdescent may run from its checkout
        return "not installed"


def _git_commit() -> str:
    """Returns the commit of the code, with "-dirty" if the files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: git does not answer"
    return answer.stdout.strip() if answer.returncode == 0 else "unknown: not in a git checkout"
