"""Chaotic series of any length, with parameters that may change along the series.

    Mackey-Glass   x' = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x       Euler, dt = 1
    Lorenz         x' = 10 (y - x),  y' = x (rho - z) - y,  z' = x y - 8/3 z
                   Runge-Kutta of order 4, dt = 0.01, x at every second step

The first points are left out, so that a series starts on its attractor. Series are not
standardized. Errors of the start and of the arithmetic grow exponentially, so that another method
or another precision gives another path on the same attractor.

Sources: M. C. Mackey, L. Glass, "Oscillation and chaos in physiological control systems", Science
197, 1977; E. N. Lorenz, "Deterministic nonperiodic flow", J. Atmos. Sci. 20, 1963.
"""

from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from jaxdescent import validation

T = TypeVar("T")

WARMUP = 500
"""Points that are left out at the start of a series."""
HISTORY = 1.2
"""Value of the Mackey-Glass series before its start."""
LORENZ_START = (1.0, 1.0, 1.0)
LORENZ_DT, LORENZ_EVERY = 0.01, 2


def mackey_glass(
    n: int, *, delays: Sequence[int] = (17,), history: float = HISTORY, warmup: int = WARMUP
) -> np.ndarray:
    """Generates a Mackey-Glass series.

    Args:
      n: number of points.
      delays: the delay tau in steps, in [1, inf). Several are used one after another, each for an
        equal part of the n points; the first also before the start.
      history: value before the start.
      warmup: number of points before the first of the n.

    Returns:
      f64[n].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> mackey_glass(3, history=1.0).tolist()  # at its unstable fixed point
      [1.0, 1.0, 1.0]
    """
    n, warmup = validation.integer_in("n", n, 1), validation.integer_in("warmup", warmup, 0)
    delays = [validation.integer_in("delays", tau, 1) for tau in delays]
    _check_values("delays", delays)
    past = deque([float(history)] * (max(delays) + 1), maxlen=max(delays) + 1)  # the latest last
    series = np.empty(warmup + n)
    for step in range(warmup + n):
        delayed = past[-1 - part(delays, step - warmup, n)]
        past.append(past[-1] + 0.2 * delayed / (1 + delayed**10) - 0.1 * past[-1])
        series[step] = past[-1]
    return series[warmup:]


def lorenz(
    n: int,
    *,
    rhos: Sequence[float] = (28.0,),
    start: tuple[float, float, float] = LORENZ_START,
    warmup: int = WARMUP,
) -> np.ndarray:
    """Generates the first coordinate of the Lorenz system, at times 0.02 apart.

    Args:
      n: number of points.
      rhos: the parameter rho. Several are used one after another, each for an equal part of the n
        points; the first also before the start.
      start: x, y and z before the first point.
      warmup: number of points before the first of the n.

    Returns:
      f64[n].

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> lorenz(2, rhos=(1.0,), start=(0.0, 0.0, 0.0)).tolist()  # at a fixed point
      [0.0, 0.0]
    """
    n, warmup = validation.integer_in("n", n, 1), validation.integer_in("warmup", warmup, 0)
    _check_values("rhos", rhos)
    state = start
    series = np.empty(warmup + n)
    for step in range(warmup + n):
        rho = part(rhos, step - warmup, n)
        for _ in range(LORENZ_EVERY):
            state = _runge_kutta(state, rho, LORENZ_DT)
        series[step] = state[0]
    return series[warmup:]


def part(values: Sequence[T], step: int, n: int) -> T:
    """Returns the value at a step of n, of values that divide the steps equally.

    Example:
      >>> [part("abc", step, 6) for step in range(-1, 6)]
      ['a', 'a', 'a', 'b', 'b', 'c', 'c']
    """
    return values[max(0, step) * len(values) // n]


def standardized(series: np.ndarray) -> np.ndarray:
    """Returns a series with mean 0 and standard deviation 1, in float32.

    Example:
      >>> standardized(np.array([1.0, 3.0])).tolist()
      [-1.0, 1.0]
    """
    return ((series - series.mean()) / series.std()).astype(np.float32)


def _check_values(name: str, values: Sequence[float]) -> None:
    if not len(values):
        raise ValueError(f"{name} must hold at least one value, got {values!r}")


Point = tuple[float, float, float]


def _runge_kutta(point: Point, rho: float, dt: float) -> Point:
    """Takes a step of the classical method of order 4. Floats are faster than arrays of three."""
    k1 = _slope(point, rho)
    k2 = _slope(_moved(point, k1, dt / 2), rho)
    k3 = _slope(_moved(point, k2, dt / 2), rho)
    k4 = _slope(_moved(point, k3, dt), rho)
    x, y, z = (
        p + dt / 6 * (a + 2 * b + 2 * c + d)
        for p, a, b, c, d in zip(point, k1, k2, k3, k4, strict=True)
    )
    return x, y, z


def _slope(point: Point, rho: float) -> Point:
    x, y, z = point
    return 10 * (y - x), x * (rho - z) - y, x * y - 8 / 3 * z


def _moved(point: Point, slope: Point, dt: float) -> Point:
    return point[0] + dt * slope[0], point[1] + dt * slope[1], point[2] + dt * slope[2]
