"""One method on one function in all of its runs: a cell of the tables, saved as a whole."""

import importlib.util
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import jaxdescent as jd
from experiments.instances import Instances
from experiments.studies.hybrid.methods import Method
from experiments.studies.hybrid.settings import FIRST_INSTANCES, Group
from jaxdescent.extras import require


class Cell(NamedTuple):
    """Results of a method on one function, run by run.

    Attributes:
      excess: f64[runs], the value at the best point minus the minimum, evaluated in float64.
      evaluations: i64[runs], numbers of evaluations until the end of the runs.
      cost: i64[runs], the same, with a gradient counted as three evaluations.
      to_target: i64[runs], numbers of evaluations until success; 0 without success.
      cost_to_target: i64[runs], the same, with a gradient counted as three evaluations.
      seconds: f64[runs]; the first run of a cell includes the time of compilation.
      precision: f64[], a run succeeds if its excess is less than this.
      coco_error: f64[runs], |f - f_coco| / max(1, |f_coco|) at the best point, for BBOB functions
        where COCO's package is installed; otherwise nan.
    """

    excess: np.ndarray
    evaluations: np.ndarray
    cost: np.ndarray
    to_target: np.ndarray
    cost_to_target: np.ndarray
    seconds: np.ndarray
    precision: np.ndarray
    coco_error: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """bool[runs], True where the run succeeded."""
        return self.excess < self.precision


def run_cell(
    method: Method,
    instances: Instances,
    group: Group,
    between_runs: Callable[[], None],
) -> Cell:
    """Runs a method on the instances, one after another.

    Args:
      method: the method.
      instances: in float64.
      group: the group of the function, which decides the budget and the precision.
      between_runs: called before each run; it may raise an exception to end them.
    """
    rows = []
    for run in range(len(instances)):
        between_runs()
        problem, key = instances[run]
        minimum = float(problem.minimum)
        began = time.monotonic()
        search = method.search(problem, key, group.budget, minimum + group.precision)
        seconds = time.monotonic() - began
        value = float(_value(problem, search.point))
        excess = value - minimum if np.isfinite(value) else np.inf
        # A count without success, or the reverse, can only be a difference of rounding.
        solved = excess < group.precision
        to_target, cost_to_target = (
            (count if solved else 0) for count in (search.to_target, search.cost_to_target)
        )
        error = coco_error(group, instances.name, run, search.point, value)
        counts = (search.evaluations, search.cost, to_target, cost_to_target)
        rows.append((excess, *counts, seconds, group.precision, error))
    *columns, precisions, errors = map(np.array, zip(*rows, strict=True))
    return Cell(*columns, precision=precisions[0], coco_error=errors)


@jax.jit
def _value(problem: jd.Problem, point: jax.Array) -> jax.Array:
    return problem.value(point)


def coco_error(group: Group, name: str, run: int, point: np.ndarray, value: float) -> float:
    """Returns the error of a BBOB value relative to COCO's value, or nan without COCO."""
    if group.suite not in FIRST_INSTANCES or importlib.util.find_spec("cocoex") is None:
        return np.nan
    cocoex = require("cocoex", "bbob")
    number, instance = int(name.removeprefix("f")), FIRST_INSTANCES[group.suite] + run
    expected = cocoex.BareProblem("bbob", number, group.dimension, instance)(point)
    return abs(value - expected) / max(1.0, abs(expected))
