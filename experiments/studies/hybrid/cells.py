"""One method on one function in all of its runs: a cell of the tables, saved as a whole."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import jaxdescent as jd
from experiments.instances import Instances
from experiments.studies.hybrid.methods import Method
from experiments.studies.hybrid.settings import SOLVED


class Cell(NamedTuple):
    """Results of a method on one function, run by run.

    Attributes:
      excess: f64[runs], the value at the best point minus the minimum, evaluated in float64.
      evaluations: i64[runs], numbers of evaluations until the end of the runs.
      cost: i64[runs], the same, with a gradient counted as three evaluations.
      to_target: i64[runs], numbers of evaluations until success; 0 without success.
      cost_to_target: i64[runs], the same, with a gradient counted as three evaluations.
      seconds: f64[runs]; the first run of a cell includes the time of compilation.
    """

    excess: np.ndarray
    evaluations: np.ndarray
    cost: np.ndarray
    to_target: np.ndarray
    cost_to_target: np.ndarray
    seconds: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """bool[runs], True where the run succeeded."""
        return self.excess < SOLVED


def run_cell(
    method: Method,
    instances: Instances,
    budget: int,
    between_runs: Callable[[], None],
) -> Cell:
    """Runs a method on the instances, one after another.

    Args:
      method: the method.
      instances: in float64.
      budget: the largest number of evaluations of a run.
      between_runs: called before each run; it may raise an exception to end them.
    """
    rows = []
    for run in range(len(instances)):
        between_runs()
        problem, key = instances[run]
        minimum = float(problem.minimum)
        began = time.monotonic()
        search = method.search(problem, key, budget, minimum + SOLVED)
        seconds = time.monotonic() - began
        excess = float(_value(problem, search.point)) - minimum
        if not np.isfinite(excess):
            excess = np.inf
        # A count without success, or the reverse, can only be a difference of rounding.
        solved = excess < SOLVED
        to_target, cost_to_target = (
            (count if solved else 0) for count in (search.to_target, search.cost_to_target)
        )
        rows.append((excess, search.evaluations, search.cost, to_target, cost_to_target, seconds))
    return Cell(*map(np.array, zip(*rows, strict=True)))


@jax.jit
def _value(problem: jd.Problem, point: jax.Array) -> jax.Array:
    return problem.value(point)
