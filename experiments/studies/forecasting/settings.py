"""Settings of the study of forecasting."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

from experiments import methods, tasks
from experiments.data import files

WINDOW, HORIZONS = 20, (1, 5)
"""Days that a forecast sees, a month of trading, and days ahead: the next day and a week."""
BATCH_SIZE = 32
EVALUATIONS = 20
COMPARED = "squared error"
"""The loss by which all methods train on the last fold, to compare them and their costs."""
ONCE = ("prodigy", "schedule_free", "self_tuning", "self_tuning_sgd")
"""Methods that train a network once."""


class Size(NamedTuple):
    """Size of the study.

    Attributes:
      series: the series by default, without the S&P 500.
      folds: folds of the walk-forward evaluation.
      epochs: passes over the training part, a multiple of `EVALUATIONS`.
      everywhere: methods that train on every fold and by every loss; `None` for all methods. The
        others train on the last fold, by the squared error.
      losses: the losses for which networks are trained.
    """

    series: tuple[str, ...]
    folds: int
    epochs: int
    everywhere: tuple[str, ...] | None = ONCE
    losses: tuple[str, ...] = ("squared error", "quantiles", "Gaussian")


SIZES = {
    "smoke": Size(("goog",), 1, EVALUATIONS, losses=(COMPARED,)),
    "small": Size(("goog", "control"), 5, 40),
    "full": Size(("goog", "control"), 5, 200, None),
}


@dataclasses.dataclass(frozen=True)
class Settings(methods.Settings):
    """Settings of the study of forecasting."""

    least: ClassVar = {**methods.Settings.least, "folds": 0, "width": 1}
    series: tuple[Literal["goog", "control", "sp500"], ...] = ()
    """Series to forecast; by default the bundled ones, and sp500 too with --data-dir."""
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
        with_files = ("sp500",) if files.has_folder(self.data_dir) else ()
        return size._replace(
            series=self.series or (*size.series, *with_files), folds=self.folds or size.folds
        )
