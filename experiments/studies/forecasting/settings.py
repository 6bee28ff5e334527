"""Settings of the study of forecasting."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from experiments import runner, tasks

SERIES = ("goog", "control", "sp500")
WINDOW, HORIZONS = 20, (1, 5)
"""Days that a forecast sees, a month of trading, and days ahead: the next day and a week."""
BATCH_SIZE = 32


class Size(NamedTuple):
    """Size of the study.

    Attributes:
      series: the series by default, without the S&P 500.
      folds: folds of the walk-forward evaluation.
      epochs: passes over the training part.
      losses: the losses for which networks are trained.
    """

    series: tuple[str, ...]
    folds: int
    epochs: int
    losses: tuple[str, ...] = ("squared error", "quantiles", "Gaussian")


SIZES = {
    "smoke": Size(("goog",), 1, 1, ("squared error", "Gaussian")),
    "small": Size(("goog", "control"), 5, 40),
    "full": Size(("goog", "control"), 5, 200),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of forecasting."""

    may_change: ClassVar = (*runner.Settings.may_change, "data_dir")
    least: ClassVar = {**runner.Settings.least, "folds": 0, "width": 1}
    series: tuple[Literal["goog", "control", "sp500"], ...] = ()
    """Series to forecast; by default the bundled ones, and sp500 too with --data-dir."""
    data_dir: Path | None = None
    """Folder of data files; by default the environment's JAXDESCENT_DATA."""
    folds: int = 0
    """Folds of the walk-forward evaluation; 0 stands for the number of the scale."""
    model: Literal["mlp", "lstm", "gru", "tcn"] = "mlp"
    """Network that forecasts from the days of the window."""
    width: int = 32
    """Width of the network's hidden layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({*self.series}) < len(self.series):
            raise ValueError(f"--series must name each series once, got {' '.join(self.series)}")

    @property
    def model_config(self) -> tasks.ModelConfig:
        """The model of the networks."""
        return tasks.ModelConfig(self.model, width=self.width)

    @property
    def size(self) -> Size:
        """The size of the study."""
        size = SIZES[self.scale]
        with_files = ("sp500",) if self.data_dir else ()
        return size._replace(
            series=self.series or (*size.series, *with_files), folds=self.folds or size.folds
        )
