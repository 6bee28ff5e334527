"""Hyperparameters that a run learns: their names and values, their table and their figure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import jaxdescent as jd
from experiments import runner

MOST_SEEDS = 8
"""Largest number of seeds that are drawn one by one."""


class Learned(NamedTuple):
    """A learned hyperparameter over the steps.

    Attributes:
      name: its name, with its level from the second level of a tower on.
      steps: i64[records + 1], from 0 on.
      values: f64[records + 1, seeds]; NaN where the log has no value.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray


def learned_values(opt_state: Any) -> dict[str, Any]:
    """Returns the learned hyperparameters of an optimizer's state, by the names of the log."""
    return {
        name if level == 1 else f"{name}_of_level_{level}": value
        for level, hyperparams in enumerate(jd.get_hyperparams(opt_state), start=1)
        for name, value in hyperparams.items()
    }


def learned_over_steps(
    tx: optax.GradientTransformation, history: Sequence[Mapping[str, Any]]
) -> list[Learned]:
    """Returns the hyperparameters over the steps, with the initial values at step 0.

    Args:
      tx: the optimizer.
      history: the records of the log.
    """
    found = []
    for name, initial in learned_values(tx.init(jnp.zeros(1))).items():
        rows = [np.ravel(np.array(record.get(name, np.nan), float)) for record in history]
        seeds = max(map(len, rows))
        values = [np.broadcast_to(row, seeds) for row in [np.ravel(np.asarray(initial)), *rows]]
        steps = np.array([0, *(record["step"] for record in history)])
        found.append(Learned(name.replace("_", " "), steps, np.array(values, float)))
    return found


def table(learned: Sequence[Learned], first: str = "initial") -> runner.Table:
    """Returns the first and the final values: geometric means, with the range over seeds.

    Args:
      learned: the hyperparameters.
      first: what the first values are.
    """
    rows = [(each.name, *map(_mean_and_range, each.values[[0, -1]])) for each in learned]
    return runner.Table(("hyperparameter", first, "final"), rows, "Learned hyperparameters")


def draw(learned: Sequence[Learned]) -> Figure:
    """Draws each hyperparameter over the steps: each seed, or the mean and range of many seeds."""
    figure = Figure(figsize=(min(12, 6.5 * len(learned)), 3.6), layout="constrained")
    for panel, each in zip(
        figure.subplots(1, len(learned), squeeze=False)[0], learned, strict=True
    ):
        if each.values.shape[1] <= MOST_SEEDS:
            panel.plot(each.steps, each.values, linewidth=1.4)
        else:
            low, high = each.values.min(axis=1), each.values.max(axis=1)
            panel.fill_between(each.steps, low, high, alpha=0.25, label="range over seeds")
            panel.plot(each.steps, _geometric_mean(each.values), label="geometric mean")
            panel.legend()
        finite = each.values[np.isfinite(each.values)]
        panel.set_yscale("log" if finite.size and finite.min() > 0 else "linear")
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.set(xlabel="steps", title=each.name)
        panel.grid(alpha=0.25)
    return figure


def _geometric_mean(values: np.ndarray) -> np.ndarray:
    """Returns the means over the last axis: geometric if all values are positive."""
    if (values > 0).all():
        return np.exp(np.log(values).mean(axis=-1))
    return values.mean(axis=-1)


def _mean_and_range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "-"
    mean, low, high = _geometric_mean(finite), finite.min(), finite.max()
    return f"{mean:.3g}" if low == high else f"{mean:.3g} ({low:.3g} to {high:.3g})"
