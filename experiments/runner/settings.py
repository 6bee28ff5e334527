"""Settings that every study has, and the settings that a run was started with."""

import dataclasses
import importlib.util
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from experiments.runner.log import jsonable


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that every study has."""

    scale: Literal["smoke", "small", "full"] = "small"
    """smoke: seconds; small: up to minutes on two cores; full: as published, or longer."""
    seed: int = 0
    """Seed of all random numbers."""
    runs: Path = Path("runs")
    """Folder in which the run's own folder is created."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    keep: int = 2
    """Number of checkpoints to keep; each also has the best evaluation."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, in the run's folder."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in [0, 4294967296), got {self.seed}")
        if not self.save_every >= 0:
            raise ValueError(f"--save-every must be in [0, inf), got {self.save_every}")
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ValueError(
                "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'"
            )
        if self.keep < 1:
            raise ValueError(f"--keep must be in [1, inf), got {self.keep}")


NOT_IN_RESULTS = ("runs", "save_every", "keep", "tensorboard")
"""Settings that do not change any result: a resumed run may have other values of them."""

S = TypeVar("S", bound=Settings)


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Returns the settings in JSON's types; paths are absolute."""
    return {
        name: str(value.absolute()) if isinstance(value, Path) else jsonable(value)
        for name, value in dataclasses.asdict(settings).items()
    }


def settings_from_json(settings_type: type[S], saved: Mapping[str, Any]) -> S:
    """Returns the settings; a field that was added later has its default.

    Raises:
      TypeError, ValueError: a value is no longer allowed.
    """
    hints = typing.get_type_hints(settings_type)
    fields = {field.name for field in dataclasses.fields(settings_type)}
    values: dict[str, Any] = {
        name: Path(value) if value is not None and "Path" in str(hints[name]) else value
        for name, value in saved.items()
        if name in fields
    }
    return settings_type(**values)
