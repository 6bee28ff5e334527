"""How bad gradient descent with given steps can be, over all L-smooth convex functions.

With L = 1, |x_0 - x*| <= 1 and the gap f(x_n) - f* in units of L |x_0 - x*|^2:

    from below     1 / (2 + 4 sum(h))                    a Huber function
                   max over a in [0, 1] of a prod((1 - a h_i)^2) / 2      quadratics
    exactly        a semidefinite programme over the values and gradients that a function of
                   the class can have at the points that are visited

Source: Y. Drori, M. Teboulle 2012, arXiv:1206.3209; A. B. Taylor, J. M. Hendrickx, F. Glineur
2015, arXiv:1502.05666; B. Goujaud et al., "PEPit", 2022, arXiv:2201.04040.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np


def installed() -> bool:
    """Whether the extra `pep` is."""
    return all(importlib.util.find_spec(name) for name in ("PEPit", "clarabel"))


def gap_from_below(steps: Sequence[float] | np.ndarray, curvatures: int = 4096) -> float:
    """What one-dimensional Huber functions and quadratics leave at least, found in no time.

    Args:
      steps: h_1, ..., h_n.
      curvatures: how many quadratics are tried.
    """
    steps = np.asarray(steps, float)
    a = np.concatenate([np.geomspace(1e-6, 1, curvatures // 2), np.linspace(0, 1, curvatures // 2)])
    left = np.ones_like(a)
    for h in steps:
        left *= (1 - a * h) ** 2
    return max(1 / (2 + 4 * steps.sum()), float((a * left).max()) / 2)


def gap(steps: Sequence[float] | np.ndarray) -> float:
    """The exact worst case of f(x_n) - f*, to about 1e-7, by PEPit.

    Args:
      steps: h_1, ..., h_n; the programme's size grows with n^2.

    Raises:
      ImportError: the extra `pep` is not installed.
    """
    return _solve(steps, strong_convexity=0.0)


def squared_distance(steps: Sequence[float] | np.ndarray, strong_convexity: float) -> float:
    """The exact worst case of |x_n - x*|^2 for strongly convex functions, by PEPit.

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
        raise ImportError(
            "PEPit is not installed; install it by pip install 'jaxdescent[pep]'"
        ) from error
    problem = PEP()
    function = problem.declare_function(
        SmoothStronglyConvexFunction, L=1.0, mu=float(strong_convexity)
    )
    minimum = function.stationary_point()
    start = x = problem.set_initial_point()
    problem.set_initial_condition((start - minimum) ** 2 <= 1)
    for h in steps:
        x = x - float(h) * function.gradient(x)
    distance = (x - minimum) ** 2
    measured = distance if strong_convexity else function(x) - function(minimum)
    problem.set_performance_metric(measured)
    worst: Any = problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)
    return float(worst)
