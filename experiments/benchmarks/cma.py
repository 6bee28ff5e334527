"""Evaluations of CMA-ES with and without injected gradient steps, beside pycma.

    python -m experiments.benchmarks.cma

Needs the extra `bbob`, which has pycma. Medians over seeds of the evaluations up to the first
generation with a value of at most 1e-9, in float64; "-" where fewer than half of the runs reach it.
A gradient counts as one evaluation, and in the last columns as three. Runs start at (1, ..., 1), or
(0, ..., 0) on the Rosenbrock function, with sigma = 0.5 and the default population.

    pycma            CMAEvolutionStrategy
    pycma + d g      the same; in each generation the point m - d g is injected, d fixed. pycma
                     limits its length. The best d differs from function to function.
    pycma gradf      the same; the point is a gradient step in the metric of C, of the length of a
                     sample
    ours             jd.evolution.cma_es
    ours + gradient  the same with inject_gradient

"stop" is the number of evaluations, gradients not counted, at which a run ends by its own criteria,
or by the limit on generations.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table
from jaxdescent.covariance_adaptation import default_population_size
from jaxdescent.extras import require

TARGET, SIGMA = 1e-9, 0.5
FACTORS = (1e-1, 1e-3, 1e-6)


class Case(NamedTuple):
    """A function, its dimension, its start and the largest number of generations."""

    name: str
    function: Callable[[jax.Array], jax.Array]
    n: int
    start: float
    generations: int


class Runs(NamedTuple):
    """Medians over runs.

    Attributes:
      evaluations: values up to the target, without gradients; inf if not reached.
      gradients: gradients up to the target.
      stop: values at which a run ends by its own criteria.
    """

    evaluations: float
    gradients: float
    stop: float


def sphere(x: jax.Array) -> jax.Array:
    """Returns sum x_i^2."""
    return jnp.sum(x**2)


def ellipsoid(x: jax.Array) -> jax.Array:
    """Returns an ellipsoid of condition number 1e6."""
    return jnp.sum(jnp.logspace(0, 6, len(x)) * x**2)


def rosenbrock(x: jax.Array) -> jax.Array:
    """Returns Rosenbrock's function, whose minimum is at (1, ..., 1)."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


CASES = (
    Case("sphere", sphere, 5, 1.0, 300),
    Case("sphere", sphere, 20, 1.0, 600),
    Case("ellipsoid", ellipsoid, 5, 1.0, 500),
    Case("ellipsoid", ellipsoid, 20, 1.0, 2_000),
    Case("Rosenbrock", rosenbrock, 5, 0.0, 700),
    Case("Rosenbrock", rosenbrock, 20, 0.0, 3_000),
)


def ours(case: Case, seeds: int, *, inject_gradient: bool) -> Runs:
    """Runs the rule on a case."""
    agents = default_population_size(case.n)
    rule = jd.evolution.cma_es(sigma=SIGMA, inject_gradient=inject_gradient)
    found = []
    for seed in range(seeds):
        result = jd.minimize(
            case.function,
            optax.sgd(0.0),
            estimator=jd.estimators.value_only(),
            init_params=jnp.full((agents, case.n), case.start),
            gradient_budget=agents * case.generations,
            num_rungs=case.generations,
            rule=rule,
            key=jax.random.key(seed),
        )
        history = result.history
        values = history.evaluations - history.gradients
        reached = np.flatnonzero(history.best_value <= TARGET)
        at_target = [
            counts[reached[0]] if len(reached) else np.inf for counts in (values, history.gradients)
        ]
        found.append([*at_target, values[-1]])
    return Runs(*np.median(found, axis=0))


def pycma(case: Case, seeds: int, inject: float | str | None = None) -> Runs:
    """Runs pycma on a case; `inject` is None, "gradf" or the factor of the gradient."""
    cma: Any = require("cma", "bbob")
    value, gradient = jax.jit(case.function), jax.jit(jax.grad(case.function))
    found = []
    for seed in range(1, seeds + 1):
        options = {"seed": seed, "verbose": -9, "maxiter": case.generations}
        es = cma.CMAEvolutionStrategy(np.full(case.n, case.start), SIGMA, options)
        generations, at_target = 0, [np.inf, np.inf]
        while not es.stop():
            if isinstance(inject, float):
                es.inject([es.mean - inject * np.asarray(gradient(es.mean))])
            with warnings.catch_warnings():  # that gradf is not tested thoroughly
                warnings.simplefilter("ignore")
                asks_gradient = {"gradf": lambda x: np.asarray(gradient(x))}
                points = es.ask(**asks_gradient if inject == "gradf" else {})
            values = [float(value(x)) for x in points]
            es.tell(points, values)
            generations += 1
            if min(values) <= TARGET and at_target[0] == np.inf:
                at_target = [es.countevals, 0 if inject is None else generations]
        found.append([*at_target, es.countevals])
    return Runs(*np.median(found, axis=0))


def row(case: Case, method: str, runs: Runs) -> tuple[str, ...]:
    """Returns a row of the table."""

    def shown(count: float) -> str:
        return f"{count:,.0f}" if np.isfinite(count) else "-"

    once, thrice = (runs.evaluations + weight * runs.gradients for weight in (1, 3))
    return f"{case.name} {case.n}-D", method, shown(once), shown(thrice), shown(runs.stop)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=11, help="number of runs of each row")
    seeds = parser.parse_args(arguments).seeds
    rows = []
    with jax.enable_x64(True):
        for case in CASES:
            rows.append(row(case, "pycma", pycma(case, seeds)))
            rows.append(row(case, "ours", ours(case, seeds, inject_gradient=False)))
            rows += [row(case, f"pycma + {d:g} g", pycma(case, seeds, d)) for d in FACTORS]
            rows.append(row(case, "pycma gradf", pycma(case, seeds, "gradf")))
            rows.append(row(case, "ours + gradient", ours(case, seeds, inject_gradient=True)))
    head = ("function", "method", "gradient as 1", "gradient as 3", "stop")
    print(table(head, rows))


if __name__ == "__main__":
    main()
