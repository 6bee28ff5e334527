"""Worst cases of gradient descent with given steps, over all L-smooth convex functions.

With L = 1, |x_0 - x*| <= 1 and the gap f(x_n) - f* in units of L |x_0 - x*|^2:

    lower bounds   1 / (2 + 4 sum(h))                                     a Huber function
                   max over a in [0, 1] of a prod((1 - a h_i)^2) / 2      quadratics
    exact value    a semidefinite program over the values and gradients that a function of
                   the class can have at the iterates

Sources: Y. Drori, M. Teboulle 2012, arXiv:1206.3209; A. B. Taylor, J. M. Hendrickx, F. Glineur
2015, arXiv:1502.05666; B. Goujaud et al., "PEPit", 2022, arXiv:2201.04040.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from jaxdescent.extras import MissingPackageError

LONG_HORIZON = 1023  # at which the constant of OBS-F is measured


class WorstCases(NamedTuple):
    """Worst-case gaps after n = 1, 2, ... steps, in units of L |x_0 - x*|^2.

    Attributes:
      exact: True if PEPit computed the gaps, False if they are lower bounds.
      silver, anytime, obs_f: f64[n], the gaps.
      silver_sums, obs_f_sums: f64[n], the sums of the steps.
      obs_f_long: the gap of OBS-F steps after `LONG_HORIZON` steps, from below.
      strongly_convex: the squared distance to the minimizer of 8 silver steps for L = 3.2 and
        mu = 0.1, relative to the initial one; nan if it was not computed.
    """

    exact: bool
    silver: np.ndarray
    anytime: np.ndarray
    obs_f: np.ndarray
    silver_sums: np.ndarray
    obs_f_sums: np.ndarray
    obs_f_long: float
    strongly_convex: float


def compute_worst_cases(longest: int) -> WorstCases:
    """Computes the worst cases of silver, anytime and OBS-F steps up to a horizon."""
    exact = has_pepit()
    worst_gap = gap if exact else gap_lower_bound
    count = jnp.arange(longest)
    silver = np.asarray(jax.vmap(jd.step_sizes.silver(1.0))(count))
    anytime = np.asarray(jax.vmap(jd.step_sizes.anytime(1.0))(count))
    horizons = range(1, longest + 1)
    obs_f = [np.asarray(jax.vmap(jd.step_sizes.obs_f(1.0, n))(count))[:n] for n in horizons]
    long_obs_f = jd.step_sizes.obs_f(1.0, LONG_HORIZON)
    long = np.asarray(jax.vmap(long_obs_f)(jnp.arange(LONG_HORIZON)))
    strongly = np.asarray(jax.vmap(jd.step_sizes.silver_strongly_convex(3.2, 0.1, 8))(count[:8]))
    return WorstCases(
        exact=exact,
        silver=np.array([worst_gap(silver[:n]) for n in horizons]),
        anytime=np.array([worst_gap(anytime[:n]) for n in horizons]),
        obs_f=np.array([worst_gap(steps) for steps in obs_f]),
        silver_sums=np.array([silver[:n].sum() for n in horizons]),
        obs_f_sums=np.array([steps.sum() for steps in obs_f]),
        obs_f_long=gap_lower_bound(long),
        strongly_convex=(
            squared_distance(3.2 * strongly, 0.1 / 3.2) if exact and longest >= 8 else float("nan")
        ),
    )


def has_pepit() -> bool:
    """True if the packages of the extra `pep` are installed."""
    return all(importlib.util.find_spec(name) for name in ("PEPit", "clarabel"))


def gap_lower_bound(steps: Sequence[float] | np.ndarray, curvatures: int = 4096) -> float:
    """Computes a lower bound on the worst gap from one-dimensional Huber functions and quadratics.

    Args:
      steps: h_1, ..., h_n.
      curvatures: the number of quadratics.
    """
    steps = np.asarray(steps, float)
    a = np.concatenate([np.geomspace(1e-6, 1, curvatures // 2), np.linspace(0, 1, curvatures // 2)])
    contraction = np.ones_like(a)
    for h in steps:
        contraction *= (1 - a * h) ** 2
    return max(1 / (2 + 4 * steps.sum()), float((a * contraction).max()) / 2)


def gap(steps: Sequence[float] | np.ndarray) -> float:
    """Computes the worst case of f(x_n) - f* with PEPit, to about 1e-7.

    Args:
      steps: h_1, ..., h_n; the size of the semidefinite program grows with n^2.

    Raises:
      ImportError: the extra `pep` is not installed.
    """
    return _solve(steps, strong_convexity=0.0)


def squared_distance(steps: Sequence[float] | np.ndarray, strong_convexity: float) -> float:
    """Computes the worst case of |x_n - x*|^2 for strongly convex functions with PEPit.

    Args:
      steps: h_1, ..., h_n.
      strong_convexity: mu, in (0, 1].

    Raises:
      ImportError: the extra `pep` is not installed.
    """
    return _solve(steps, strong_convexity)


def _solve(steps: Sequence[float] | np.ndarray, strong_convexity: float) -> float:
    try:
        from PEPit import PEP
        from PEPit.functions import SmoothStronglyConvexFunction
    except ImportError as error:
        raise MissingPackageError(
            "PEPit is not installed; install it with pip install 'jaxdescent[pep]'"
        ) from error
    problem = PEP()
    function = problem.declare_function(
        SmoothStronglyConvexFunction, L=1.0, mu=float(strong_convexity)
    )
    minimizer = function.stationary_point()
    start = x = problem.set_initial_point()
    problem.set_initial_condition((start - minimizer) ** 2 <= 1)
    for h in steps:
        x = x - float(h) * function.gradient(x)
    distance = (x - minimizer) ** 2
    metric = distance if strong_convexity else function(x) - function(minimizer)
    problem.set_performance_metric(metric)
    worst: Any = problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)
    return float(worst)
