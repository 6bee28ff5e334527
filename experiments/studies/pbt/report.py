"""The tables and the notes of the study of population-based training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments import runner
from experiments.runner.page import Table
from experiments.studies.pbt.settings import BATCH_SIZE, HIDDEN_UNITS, SPACES, Size
from experiments.studies.pbt.training import METHODS, Comparison, Trained


class Difference(NamedTuple):
    """A paired difference of test losses, with its 95% interval by Student's t.

    Attributes:
      mean: the mean over seeds, in nats.
      low, high: the interval; NaN for a single seed.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def difference(found: Sequence[Comparison], method: str, other: str) -> Difference:
    """Returns the test losses of a method minus the losses of another, paired by seed."""
    differences = np.array(
        [float(getattr(each, method).test - getattr(each, other).test) for each in found]
    )
    mean, count = differences.mean(), len(differences)
    if count < 2:
        return Difference(float(mean), np.nan, np.nan)
    margin = stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5
    return Difference(float(mean), float(mean - margin), float(mean + margin))


def make_results(found: Sequence[Comparison], size: Size, first_seed: int) -> runner.Results:
    """Returns the tables and the notes."""
    columns = (
        "method",
        "gradients, in trainings of one network",
        "validation loss",
        "test loss",
        "test accuracy, %",
        "test loss minus that with population-based training",
    )
    rows = [_row(found, method, size) for method in METHODS]
    by_seed = Table(
        ("seed", *METHODS.values()),
        [
            (str(first_seed + number), *(f"{getattr(each, name).test:.4f}" for name in METHODS))
            for number, each in enumerate(found)
        ],
        "Test loss by seed",
    )
    values = {
        str(first_seed + number): {name: getattr(each, name)._asdict() for name in METHODS}
        for number, each in enumerate(found)
    }
    title = "Population-based training against random search of equal compute"
    return runner.Results(
        title, columns, rows, _notes(found, size), values, _verdict(found), [by_seed]
    )


def _row(found: Sequence[Comparison], method: str, size: Size) -> Sequence[str]:
    trained: list[Trained] = [getattr(each, method) for each in found]

    def mean(field: str) -> float:
        return float(np.mean([getattr(each, field) for each in trained]))

    return (
        METHODS[method],
        f"{mean('gradients') / size.steps:.3g}",
        f"{mean('validation'):.4f}",
        f"{mean('test'):.4f}",
        f"{mean('accuracy'):.2f}",
        "" if method == "pbt" else str(difference(found, method, "pbt")),
    )


def _verdict(found: Sequence[Comparison]) -> str:
    search = difference(found, "random_search", "pbt")
    wins = sum(bool(each.pbt.test < each.random_search.test) for each in found)
    if search.low > 0:
        said = "is lower than with the best network of a random search of equal compute"
    elif search.high < 0:
        said = "is higher than with the best network of a random search of equal compute"
    else:
        said = "cannot be told from the best network of a random search of equal compute"
    tuned = difference(found, "self_tuning", "pbt")
    return (
        f"The test loss with population-based training {said}: random search minus "
        f"population-based training is {search} nats, and {wins} of {len(found)} seeds are won. "
        f"For one network with jd.self_tuning, at {_share(found):.1%} of the gradients, the "
        f"difference is {tuned}."
    )


def _share(found: Sequence[Comparison]) -> float:
    return float(np.mean([each.self_tuning.gradients / each.pbt.gradients for each in found]))


def _notes(found: Sequence[Comparison], size: Size) -> list[str]:
    ranges = ", ".join(
        f"{name.replace('_', ' ')} {low:g} to {high:g}"
        for name, (low, high) in ((name, space.natural()) for name, space in SPACES.items())
    )
    last = [each.pbt.learning_rate for each in found]
    factors = [float(x[np.isfinite(x)][-1] / np.nanmax(x)) for x in last]
    return [
        "Intervals are 95% intervals of Student's t for the mean of the differences, paired by "
        f"seed ({len(found)} seeds): all methods have the same starts and batches, and both "
        "populations the same initial hyperparameters.",
        f"Both populations have {size.agents} networks, trained by AdamW for {size.steps:,} steps "
        f"on batches of {BATCH_SIZE}. Initial hyperparameters are log-uniform ({ranges}). "
        f"Population-based training copies and changes them after each {size.steps_per_rung:,} "
        "steps, with the defaults of jd.evolution.population_based_training. Random search keeps "
        "them. From both, the network with the lowest validation loss at the end of any such "
        "stretch is selected. jd.self_tuning(optax.adamw) trains one network for as many steps; "
        "its averaged parameters at the end are evaluated.",
        "The learning rate at the end of the selected lineage is, relative to its highest, "
        f"{np.median(factors):.2g} in the median.",
        f"The data are scikit-learn's digits at all nine shifts of up to one pixel, in the usual "
        f"three parts; the network has {HIDDEN_UNITS} hidden units. Test data are not used for "
        "any choice. The sizes of task, network, ranges and rungs were chosen on other seeds (10 "
        "and above): with rungs of 100 to 400 steps, or 16 hidden units, random search was not "
        "worse.",
    ]
