"""Step sizes made by joining shorter schedules: optimal for a horizon, or good at every step.

Steps are h_i / L. Two lists of steps, with sums x and y, are joined by one step between them:

    a, phi(x, y), b        phi(x, y) = (sqrt((x + y + 2)^2 + 4 (x + 1) (y + 1)) - x - y) / 2
    a, psi(x, y), c        psi(x, y) = (3 - 2 y + sqrt((2 y + 1) (2 y + 8 x + 9))) / 4

a and b are empty or were joined by phi, and the joined list can be joined again; silver steps are
made in this way. c is empty or was joined by psi. Joining by psi gains more, but its result cannot
be joined further. Both kinds leave f - f* <= L D^2 / (2 + 4 sum(h)), so the best list of n steps
has the largest sum. A dynamic program finds where to split.

Source: B. Grimmer, K. Shu, A. L. Wang 2024, arXiv:2410.16249; Z. Zhang, R. Jiang 2024,
arXiv:2410.12395, for phi and psi; Z. Zhang, J. D. Lee, S. S. Du, Y. Chen 2024, arXiv:2411.17668,
for any horizon.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.stability.step_sizes.silver_schedules import (
    RHO,
    divide,
    look_up,
    silver,
    steps_done,
)

MAX_HORIZON = 2**14  # the dynamic program's cost is quadratic
_LEVELS = 11


def obs_f(smoothness: ArrayLike, horizon: int) -> optax.Schedule:
    """The best known step sizes for the loss after a given number of steps (OBS-F).

    They leave f - f* <= L D^2 / (2 + 4 sum(h)) < .2116 L D^2 / n^1.2716 after n = `horizon`
    steps, for any n, and are conjectured to be optimal among step sizes fixed in advance.
    Stopping earlier has no guarantee. Steps after the horizon are 1 / L, which never increase the
    loss, so that the guarantee still holds.

    Args:
      smoothness: L, the largest curvature, above 0; a number or an array, which may be traced.
        If it is 1% too small, long horizons diverge.
      horizon: n, in [1, 16384]; construction takes time quadratic and memory linear in n.

    Returns:
      A schedule: called with the number of steps taken (from 0; may be traced), returns the next
      step size.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: an argument is out of range.

    Example:
      >>> steps = obs_f(smoothness=2.0, horizon=2)
      >>> [round(float(2.0 * steps(count)), 4) for count in range(4)]
      [1.4142, 1.8768, 1.0, 1.0]
    """
    validation.positive("smoothness", smoothness)
    horizon = validation.integer_in("horizon", horizon, 1, MAX_HORIZON)
    table = np.append(_best_steps(horizon), 1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        return divide(look_up(table, steps_done(count)), smoothness)

    return schedule


def anytime(smoothness: ArrayLike) -> optax.Schedule:
    """Step sizes with a guarantee at any stopping time: f - f* = O(L D^2 / n^1.1195).

    Silver blocks of 2^j - 1 steps are joined by phi, floor(2 rho^j) of each for j = 0, 1, ...
    With a known horizon `silver` and `obs_f` are better. For every n up to 31 the exact worst case
    is better than with constant steps, and at most .28 L D^2 / n^1.1195.

    Args:
      smoothness: L, the largest curvature, above 0; a number or an array, which may be traced.
        If it is 1% too small, long runs diverge.

    Returns:
      A schedule: called with the number of steps taken (from 0; may be traced), returns the next
      step size. After 17 million steps it is 1 / L.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: `smoothness` is not positive.

    Example:
      >>> steps = anytime(smoothness=1.0)
      >>> [round(float(steps(count)), 4) for count in range(4)]
      [1.4142, 1.6012, 2.2606, 1.4142]
    """
    validation.positive("smoothness", smoothness)
    starts, first_joins, joins = _anytime_joins()
    inside = silver(1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        count = steps_done(count)
        level = jnp.sum(count[..., None] >= jnp.asarray(starts[1:], jnp.int32), axis=-1)
        block, position = jnp.divmod(
            count - jnp.asarray(starts, jnp.int32)[level], jnp.left_shift(1, level)
        )
        join = look_up(joins, jnp.asarray(first_joins, jnp.int32)[level] + block)
        h = jnp.where(position == 0, join, inside(position - 1))
        return divide(jnp.where(level < _LEVELS, h, 1), smoothness)

    return schedule


def _phi(x: Any, y: Any) -> Any:
    return (np.sqrt((x + y + 2) ** 2 + 4 * (x + 1) * (y + 1)) - x - y) / 2


def _psi(x: Any, y: Any) -> Any:
    return (3 - 2 * y + np.sqrt((2 * y + 1) * (2 * y + 8 * x + 9))) / 4


@functools.lru_cache(maxsize=16)
def _best_steps(horizon: int) -> np.ndarray:
    """Returns the steps of OBS-F, f64[horizon]."""
    sums, splits = np.zeros((2, horizon + 1)), np.zeros((2, horizon + 1), int)
    for n in range(1, horizon + 1):
        left = sums[0, :n]
        for kind, join in enumerate((_phi, _psi)):
            right = sums[kind, n - 1 :: -1][:n]
            totals = left + right + join(left, right)
            splits[kind, n] = totals.argmax()
            sums[kind, n] = totals.max()
    steps = np.zeros(horizon)
    pieces = [(0, horizon, 1)]
    while pieces:  # not by recursion, which could be as deep as the number of steps
        start, n, kind = pieces.pop()
        if n == 0:
            continue
        left = int(splits[kind, n])
        right = n - 1 - left
        join = (_phi, _psi)[kind]
        steps[start + left] = join(sums[0, left], sums[kind, right])
        pieces += [(start, left, 0), (start + left + 1, right, kind)]
    steps.setflags(write=False)
    return steps


@functools.lru_cache(maxsize=1)
def _anytime_joins() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the first step of each level, the index of its first join, and all joins."""
    starts, first_joins, joins = [0], [0], []
    total = 0.0
    for level in range(_LEVELS):
        block = RHO**level - 1
        repeats = math.floor(2 * RHO**level)
        for _ in range(repeats):
            join = _phi(total, block)
            joins.append(join)
            total += join + block
        starts.append(starts[-1] + repeats * 2**level)
        first_joins.append(len(joins))
    return np.array(starts), np.array(first_joins), np.array(joins)
