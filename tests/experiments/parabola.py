"""Descent of a parabola: a study outside of `experiments.studies`."""

import dataclasses
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import runner

STEPS = {"smoke": 3, "small": 30, "full": 300}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the descent."""

    learning_rate: float = 0.25
    """Learning rate."""
    start: float = 8.0
    """First point."""


class Outcome(NamedTuple):
    """Losses `f64[steps]` of a descent."""

    losses: np.ndarray


def check(settings):
    """Raises ValueError if the descent diverges."""
    if settings.learning_rate >= 1:
        raise ValueError(f"--learning-rate must be below 1, got {settings.learning_rate}")


def descend(settings):
    points = settings.start * (1 - 2 * settings.learning_rate) ** np.arange(STEPS[settings.scale])
    return Outcome(points**2)


def run(settings, run):
    """Descends, logs the losses and draws them."""
    losses = run.series("descent", Outcome, lambda: descend(settings)).losses
    run.log.rewind("descent", 0)
    for step, loss in enumerate(losses, start=1):
        run.log.append(series="descent", step=step, loss=loss, seconds=0.001 * step)
    figure = Figure()
    figure.subplots().plot(losses)
    run.save_figure("losses", figure)
    rows = [(f"{settings.learning_rate:g}", f"{losses[-1]:.4g}")]
    return runner.Results(
        "A parabola",
        ("learning rate", "last loss"),
        rows,
        ["The loss is x^2."],
        {"losses": losses},
        verdict=f"The loss falls to {losses[-1]:.4g}.",
    )
