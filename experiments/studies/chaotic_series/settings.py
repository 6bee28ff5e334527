"""Settings of the study of chaotic series."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, cast

from experiments import runner
from experiments.studies.chaotic_series.methods import METHODS, STARTS, MethodName
from experiments.studies.chaotic_series.streams import STREAMS, StreamName


class Size(NamedTuple):
    """Size of the study at a scale.

    Attributes:
      steps: steps of each training, which are also batches.
      seeds: networks per row.
      width: units of the GRU.
      batch_size: windows of a batch.
      rates: the grid of fixed learning rates; it holds `STARTS`.
    """

    steps: int
    seeds: int
    width: int
    batch_size: int
    rates: Sequence[float]


HALF_DECADES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
SIZES = {
    "smoke": Size(steps=40, seeds=2, width=4, batch_size=4, rates=(*STARTS, 0.3)),
    "small": Size(steps=3000, seeds=3, width=32, batch_size=32, rates=HALF_DECADES),
    "full": Size(steps=12_000, seeds=10, width=64, batch_size=64, rates=HALF_DECADES),
}
"""Scale full is the published protocol; scale small takes about a thirtieth of its time."""


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of chaotic series."""

    may_change: ClassVar = (*runner.Settings.may_change, "streams", "methods")
    least: ClassVar = {
        **runner.Settings.least,
        **dict.fromkeys(("steps", "seeds", "width", "batch_size"), 0),
    }
    streams: tuple[StreamName, ...] = tuple(STREAMS)
    """Streams to forecast."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Methods to train with; sgd, the grid, is always among them."""
    steps: int = 0
    """Number of steps of each training; 0 for the scale's."""
    seeds: int = 0
    """Number of networks of each row; 0 for the scale's."""
    width: int = 0
    """Number of units of the GRU; 0 for the scale's."""
    batch_size: int = 0
    """Number of windows of a batch; 0 for the scale's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size = SIZES[self.scale]
        for name in ("steps", "seeds", "width", "batch_size"):
            if not getattr(self, name):
                object.__setattr__(self, name, getattr(size, name))
        if self.steps < 10:
            raise ValueError(f"--steps must be at least 10, got {self.steps}")

    @property
    def stream_names(self) -> Sequence[StreamName]:
        """The names of the streams, each once."""
        return list(dict.fromkeys(self.streams))

    @property
    def method_names(self) -> Sequence[MethodName]:
        """The names of the methods, each once, the grid first."""
        return list(dict.fromkeys((cast(MethodName, "sgd"), *self.methods)))

    def starts(self, method: MethodName) -> Sequence[float | None]:
        """Returns the learning rates at which a method starts."""
        return METHODS[method].starts or SIZES[self.scale].rates
