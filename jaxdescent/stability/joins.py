"""Step sizes made by joining shorter ones: optimal for a horizon, or good at every one.

Steps are h_i / L. Two lists of them with sums x and y are joined by a step between:

    a, phi(x, y), b        phi(x, y) = (sqrt((x + y + 2)^2 + 4 (x + 1) (y + 1)) - x - y) / 2
    a, psi(x, y), c        psi(x, y) = (3 - 2 y + sqrt((2 y + 1) (2 y + 8 x + 9))) / 4

a and b are empty or joined by phi; so is the result, and silver steps are such lists. c is
empty or joined by psi, which is for the last time: more is gained, nothing can be appended.
Both kinds leave f - f* <= L D^2 / (2 + 4 sum(h)), so the best list of n steps has the
greatest sum. A dynamic programme finds where to split.

Source: B. Grimmer, K. Shu, A. L. Wang 2024, arXiv:2410.16249; Z. Zhang, R. Jiang 2024,
arXiv:2410.12395, whose phi and psi these are; for every horizon Z. Zhang, J. D. Lee, S. S. Du,
Y. Chen 2024, arXiv:2411.17668.
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
from jaxdescent.stability.silver import RHO, look_up, over, positive, silver, steps_done

LONGEST = 2**14  # the programme's cost is quadratic
_LEVELS = 11


def obs_f(smoothness: ArrayLike, horizon: int) -> optax.Schedule:
    """The best steps known for the loss after a given number of them (OBS-F).

    They leave f - f* <= L D^2 / (2 + 4 sum(h)) < .2116 L D^2 / n^1.2716 after n = `horizon`
    steps, for any n, and are conjectured to be optimal among step sizes fixed in advance.
    Stopping earlier has no guarantee. Steps after the horizon are 1 / L, which raise the loss
    nowhere, so that the guarantee stays.

    Args:
      smoothness: L, the greatest curvature, above 0; a number or an array, which may be
        traced. If it is too small by a percent, long horizons diverge.
      horizon: n, in [1, 16384]; time and memory to construct are quadratic and linear in it.

    Returns:
      A schedule, from the count of steps done (from 0; may be traced) to the next step size.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: one is out of range.

    Example:
      >>> steps = obs_f(smoothness=2.0, horizon=2)
      >>> [round(float(2.0 * steps(count)), 4) for count in range(4)]
      [1.4142, 1.8768, 1.0, 1.0]
    """
    positive("smoothness", smoothness)
    horizon = validation.integer_in("horizon", horizon, 1, LONGEST)
    table = np.append(_best_steps(horizon), 1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        return over(look_up(table, steps_done(count)), smoothness)

    return schedule


def anytime(smoothness: ArrayLike) -> optax.Schedule:
    """Steps with a guarantee wherever they are stopped: f - f* = O(L D^2 / n^1.1195).

    Silver blocks of 2^j - 1 steps are joined by phi, floor(2 rho^j) of each for j = 0, 1, ...
    With a known horizon `silver` and `obs_f` are better. For n up to 31 the exact worst case
    is below that of constant steps at every n, and times n^1.1195 it is at most .28.

    Args:
      smoothness: L, the greatest curvature, above 0; a number or an array, which may be
        traced. If it is too small by a percent, long runs diverge.

    Returns:
      A schedule, from the count of steps done (from 0; may be traced) to the next step size.
      After 17 million steps it is 1 / L.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: it is not positive.

    Example:
      >>> steps = anytime(smoothness=1.0)
      >>> [round(float(steps(count)), 4) for count in range(4)]
      [1.4142, 1.6012, 2.2606, 1.4142]
    """
    positive("smoothness", smoothness)
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
        return over(jnp.where(level < _LEVELS, h, 1), smoothness)

    return schedule


def _phi(x: Any, y: Any) -> Any:
    return (np.sqrt((x + y + 2) ** 2 + 4 * (x + 1) * (y + 1)) - x - y) / 2


def _psi(x: Any, y: Any) -> Any:
    return (3 - 2 * y + np.sqrt((2 * y + 1) * (2 * y + 8 * x + 9))) / 4


@functools.lru_cache(maxsize=16)
def _best_steps(horizon: int) -> np.ndarray:
    """The steps of OBS-F, f64[horizon]."""
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
    while pieces:  # pieces are nested as deep as there are steps: no recursion
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
    """Where each level starts, which of all joins is its first, and the joins."""
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
