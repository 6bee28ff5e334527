"""The quantum algorithm and the classical methods on one function."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.functions.methods import HALVING, RUNGS, agent, agent_hyperparams
from experiments.studies.hamiltonian_descent.functions import GradientBenchmark
from experiments.studies.hamiltonian_descent.settings import Settings

TIMES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Times of the records, as parts of the end time."""

DRAWN = 64
"""Cells on each side of the distributions that are kept for the figure, at most."""

AGENTS = 64
DESCENT_RATE = 0.02
"""First learning rate of an independent descent, in widths of the box; it decays to 0."""

TIE = 1.001
"""The published gap of 1 is the depth of a valley of Michalewicz's function to within rounding."""


class Waves(NamedTuple):
    """The quantum algorithm on one function.

    Attributes:
      times: f[m], times of the records.
      success: f[m], the probability of a success.
      cells: f[m, c, c], the probability of the cells of a coarse grid, or of the grid's points.
      norm: f[], the norm of the wave at the end.
      best: f[2], the most probable point at the end, in units of the box.
      plain_success: f[], with the gradient term: the success at the end without it; otherwise nan.
    """

    times: np.ndarray
    success: np.ndarray
    cells: np.ndarray
    norm: np.ndarray
    best: np.ndarray
    plain_success: np.ndarray


class Classical(NamedTuple):
    """The classical methods on one function, shares of successes.

    Attributes:
      magd: f[], of the runs of multi-agent gradient descent.
      hybrid: f[], of the runs of `jd.hybrid`.
      descent: f[], of single descents by Adam.
      magd_values, hybrid_values: f[], mean numbers of function values of a run.
      hybrid_to_best: f[], mean number of function values until the best point.
    """

    magd: np.ndarray
    hybrid: np.ndarray
    descent: np.ndarray
    magd_values: np.ndarray
    hybrid_values: np.ndarray
    hybrid_to_best: np.ndarray


def quantum(problem: jd.Problem, settings: Settings) -> Waves:
    """Runs the quantum algorithm in its published setting."""
    result = jd.quantum.hamiltonian_descent(
        problem,
        grid=settings.size.points,
        end_time=settings.end_time,
        time_step=settings.size.time_step,
        times=[part * settings.end_time for part in TIMES],
        radius=settings.radius,
    )
    return _waves(problem, result, np.nan)


def gradient_quantum(benchmark: GradientBenchmark, settings: Settings) -> Waves:
    """Runs the quantum algorithm with and without the gradient term, as published."""
    problem = benchmark.make()
    schedules = (
        jd.quantum.gradient_schedule(),
        jd.quantum.gradient_schedule(gradient=0.0, gamma=0.0),
    )
    with_term, without = (
        jd.quantum.hamiltonian_descent(
            problem,
            grid=settings.size.gradient_points,
            schedule=schedule,
            end_time=benchmark.end_time,
            time_step=settings.size.gradient_time_step,
            times=[part * benchmark.end_time for part in TIMES],
            length=1.0,
            gap=TIE,
        )
        for schedule in schedules
    )
    return _waves(problem, with_term, without.success[-1])


def _waves(
    problem: jd.Problem, result: jd.quantum.HamiltonianDescentResult, plain_success: Any
) -> Waves:
    points = result.distribution.shape[-1]
    cells = min(points, DRAWN)
    width = points // cells
    coarse = result.distribution.reshape(-1, cells, width, cells, width).sum((2, 4))
    best = (result.params - problem.lower) / (problem.upper - problem.lower)
    found = (result.times, result.success, coarse, result.norm[-1], best, plain_success)
    return Waves(*map(np.asarray, found))


def classical(problem: jd.Problem, settings: Settings) -> Classical:
    """Runs the classical methods with the number of function values of the grid."""
    budget, runs = settings.size.points**2, settings.size.runs
    keys = [jax.random.fold_in(jax.random.key(settings.seed), run) for run in range(runs)]
    magd = [
        jd.minimize(
            problem,
            agent,
            key=key,
            num_agents=AGENTS,
            hyperparams=agent_hyperparams(AGENTS, key),
            gradient_budget=budget,
            num_rungs=RUNGS,
            rule=HALVING,
            chunk_size=32,
        )
        for key in keys
    ]
    hybrid = [jd.hybrid(problem, key=key, max_evaluations=budget) for key in keys]
    steps = settings.size.points
    descents = jd.minimize(
        problem,
        optax.adam(optax.cosine_decay_schedule(DESCENT_RATE, steps)),
        key=jax.random.key(settings.seed),
        num_agents=runs * budget // steps,
        steps=steps,
        num_rungs=1,
        rule=jd.pruning.no_pruning(),
    )

    ends = descents.population.params
    return Classical(
        magd=_mean([is_success(problem, result.params, settings.radius) for result in magd]),
        hybrid=_mean([is_success(problem, result.params, settings.radius) for result in hybrid]),
        descent=_mean(is_success(problem, ends, settings.radius)),
        magd_values=_mean([result.evaluations for result in magd]),
        hybrid_values=_mean([result.evaluations for result in hybrid]),
        hybrid_to_best=_mean([result.evaluations_to_best for result in hybrid]),
    )


def _mean(values: Any) -> np.ndarray:
    return np.asarray(np.mean(np.asarray(values, np.float64)))


def is_success(problem: jd.Problem, points: jax.Array, radius: float) -> jax.Array:
    """True where a point is within the radius of the first optimum, in units of the box."""
    offset = (points - problem.optima[0]) / (problem.upper - problem.lower)
    return jnp.sum(offset**2, -1) <= radius**2
