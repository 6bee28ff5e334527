"""Settings that every study has, and the settings that a run was started with."""

import dataclasses
import importlib.util
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from experiments.runner.log import jsonable

NOT_IN_RESULTS = ("runs", "save_every", "keep", "tensorboard")
"""Settings that do not change any result."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that every study has.

    Attributes:
      may_change: names of the settings that `--resume` may change; all others must stay as they
        were. A setting with several values may only gain values.
      least: the least value of a setting of this name, in studies that have it.
    """

    may_change: ClassVar[tuple[str, ...]] = NOT_IN_RESULTS
    least: ClassVar[Mapping[str, int]] = {
        "save_every": 0,
        **dict.fromkeys(("keep", "steps", "epochs", "seeds", "batch_size"), 1),
    }
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
        for name, value in vars(self).items():
            least = self.least.get(name, -math.inf)
            if isinstance(value, (int, float)) and not value >= least:
                wanted = f"in [{least}, inf)" if name in self.least else "a number"
                raise ValueError(f"{flag(name)} must be {wanted}, got {value}")
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ValueError(
                "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'"
            )

    def check_resume(self, saved: Self, folder: Path) -> None:
        """Checks that a run can go on with these settings.

        Args:
          saved: the settings of the run.
          folder: the folder of the run.

        Raises:
          ValueError: a setting differs that must stay the same.
        """
        before, now = settings_to_json(saved), settings_to_json(self)
        for name in changed_settings(saved, self):
            wanted = f"be {before[name]}"
            if name in self.may_change:
                if not isinstance(now[name], list) or {*before[name]} <= {*now[name]}:
                    continue
                wanted = f"include {', '.join(before[name])}"
            raise ValueError(
                f"{flag(name)} must {wanted}, as when {folder} was started, got {now[name]}"
            )


S = TypeVar("S", bound=Settings)


def flag(name: str) -> str:
    """Returns the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def changed_settings(saved: Settings, settings: Settings) -> list[str]:
    """Returns the names of the settings that differ."""
    before, now = settings_to_json(saved), settings_to_json(settings)
    return [name for name in now if now[name] != before[name]]


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Returns the settings in JSON's types; paths are absolute."""
    return {
        name: str(value.absolute()) if isinstance(value, Path) else jsonable(value)
        for name, value in dataclasses.asdict(settings).items()
    }


def defaults_to_json(settings: Settings) -> dict[str, Any]:
    """Returns the default of each setting in JSON's types, as it is at the scale of the settings.

    A default of None may stand for a value that depends on other settings. It stays None where the
    settings keep it. They are empty if a study needs a flag, or if its check of the defaults fails.
    """
    kind = type(settings)
    try:
        at_scale = settings_to_json(kind(scale=settings.scale, runs=settings.runs))
    except Exception:  # a study may raise anything
        return {}
    unset = {field.name for field in dataclasses.fields(kind) if field.default is None}
    unset = {name: None for name in unset if getattr(settings, name) is None}
    return {**at_scale, **unset, "scale": kind.scale, "runs": str(kind.runs.absolute())}


def settings_from_json(settings_type: type[S], saved: Mapping[str, Any]) -> S:
    """Returns the settings; a field that was added later has its default.

    Raises:
      TypeError, ValueError: a value is no longer allowed.
    """
    hints = typing.get_type_hints(settings_type)
    fields = {field.name for field in dataclasses.fields(settings_type)}

    def decode(name: str, value: Any) -> Any:
        if value is not None and "Path" in str(hints[name]):
            return Path(value)
        if value is None and hints[name] is float:
            return math.inf  # which JSON does not have
        return tuple(value) if isinstance(value, list) else value

    return settings_type(**{name: decode(name, saved[name]) for name in saved if name in fields})
