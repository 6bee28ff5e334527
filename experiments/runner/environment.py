"""The environment of a run: versions, device and commit."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

CODE = "study_sha256"
"""Name in an environment of the digest of the study's file."""
_PACKAGES = ("jaxdescent", "jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")


def environment(study_file: Path | None = None) -> dict[str, Any]:
    """Returns versions, device and commit, which are needed to reproduce the run.

    Args:
      study_file: the file of a study that is not part of the commit; its digest is added.
    """
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "git_commit": _git_commit(),
        **({CODE: digest(study_file)} if study_file else {}),
    }


def digest(file: Path) -> str:
    """Returns the SHA-256 digest of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
