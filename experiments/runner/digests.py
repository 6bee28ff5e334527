"""Digests of the files of a folder, which tell a file that has changed on disk.

digests.json   the SHA-256 of each other file, by its path in the folder
"""

import hashlib
import json
from pathlib import Path

_NAME = "digests.json"


def write_digests(folder: Path) -> None:
    """Writes `digests.json`, completely or not at all."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    partial = folder / f"{_NAME}.partial"
    partial.write_text(json.dumps(digests, indent=1))
    partial.rename(folder / _NAME)


def check_digests(folder: Path) -> None:
    """Compares the files with `digests.json`; without one, every file is accepted.

    Raises:
      ValueError: a file has changed.
      OSError: a file is missing.
    """
    listed = folder / _NAME
    if not listed.exists():
        return
    for name, digest in json.loads(listed.read_bytes()).items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} has changed since it was written")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
