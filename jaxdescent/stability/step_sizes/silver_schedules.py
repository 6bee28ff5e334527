"""Silver step sizes: gradient descent accelerated by occasional long steps.

Steps are h_i / L, i = 1, 2, ...; nu(i) is the exponent of 2 in i, and rho = 1 + sqrt(2).

    convex                 h_i = 1 + rho^(nu(i) - 1)
    strongly convex        h_i = psi(y_(nu(i) + 1)); the last of a block of 2^k is psi(z_k)
                           psi(t) = (1 + t L / mu) / (1 + t),   y_0 = z_0 = mu / L,
                           s = 1 - z + sqrt(1 + (1 - z)^2),   y' = z / s,   z' = z s

A step above 2 / L raises the loss along directions of high curvature, which the short steps
around it have damped. Stop only at the end of a block: elsewhere the short steps that compensate
for a long one are missing.

Source: J. M. Altschuler, P. A. Parrilo, "Acceleration by stepsize hedging", I (strongly
convex) and II (convex), 2023, arXiv:2309.07879 and arXiv:2309.16530.
"""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation

RHO = 1 + math.sqrt(2)
_LAST = 2**31 - 2  # the largest count whose successor is an int32
_LEVELS = 31  # number of values of nu for an int32
_STEPS = 1 + RHO ** (np.arange(_LEVELS) - 1.0)


def silver(smoothness: ArrayLike, horizon: int | None = None) -> optax.Schedule:
    """Silver step sizes for smooth convex functions.

    After n = 2^k - 1 steps f - f* <= L D^2 / (2 + 4 sum(h)), where sum(h) = rho^k - 1 and D
    is the distance from the start to a minimum: about n^-1.27, instead of 1 / n for constant
    steps. The schedule never ends. The guarantee holds after every such n, but not in between: just
    after a long step the loss may be high. For the function L x^2 / 2 it is L D^2 rho^(-2 b) / 2,
    where b is the number of ones in n in binary. For n = 4, 8, 16, ... that is .0858 L D^2.

    Args:
      smoothness: L, the largest curvature, above 0; a number or an array, which may be traced.
        If it is 1% too small, long horizons diverge.
      horizon: the number of steps after which the parameters will be used. Steps after it
        are 1 / L, which never increase the loss. None continues with silver steps.

    Returns:
      A schedule: called with the number of steps taken (from 0; may be traced), returns the next
      step size.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: an argument is out of range.

    Warns:
      UserWarning: constant steps of 1 / L have a better guarantee at this horizon.

    Example:
      >>> steps = silver(smoothness=2.0)
      >>> [round(float(steps(count)), 4) for count in range(4)]
      [0.7071, 1.0, 0.7071, 1.7071]
      >>> tx = optax.sgd(silver(smoothness=2.0, horizon=63))
    """
    validation.positive("smoothness", smoothness)
    if horizon is not None:
        horizon = validation.integer_in("horizon", horizon, 1)
        _warn_if_worse(horizon)

    def schedule(count: ArrayLike) -> jax.Array:
        count = steps_done(count)
        h = look_up(_STEPS, _exponent_of_2(count + 1))
        if horizon is not None:
            h = jnp.where(count < min(horizon, _LAST + 1), h, 1)
        return divide(h, smoothness)

    return schedule


def silver_strongly_convex(
    smoothness: ArrayLike, strong_convexity: ArrayLike, block: int | None = None
) -> optax.Schedule:
    """Silver step sizes for smooth and strongly convex functions.

    Every block of 2^k steps multiplies the squared distance to the minimum by at most
    ((1 - z_k) / (1 + z_k))^2. An accuracy of eps takes about kappa^.786 log(1 / eps) steps, where
    kappa = L / mu, instead of kappa log(1 / eps) for constant steps. Blocks repeat; stop at the
    end of one. With a block of 1 the step is 2 / (L + mu).

    Args:
      smoothness: L, the largest curvature, above 0; a number or an array, which may be traced.
      strong_convexity: mu, the smallest curvature, in (0, L]; as `smoothness`.
      block: number of steps in a block, a power of 2. By default 2^floor(log_rho(kappa / 3)), as
        published. Longer blocks gain little, and their guarantee comes later.

    Returns:
      A schedule: called with the number of steps taken (from 0; may be traced), returns the next
      step size.

    Raises:
      TypeError: a curvature is not a number.
      ValueError: an argument is out of range.

    Example:
      >>> steps = silver_strongly_convex(smoothness=3.2, strong_convexity=0.1, block=4)
      >>> [round(float(3.2 * steps(count)), 4) for count in range(5)]
      [1.4049, 1.9679, 1.4049, 5.4795, 1.4049]
    """
    validation.positive("smoothness", smoothness)
    validation.positive("strong_convexity", strong_convexity)
    known = not any(isinstance(x, jax.core.Tracer) for x in (smoothness, strong_convexity))
    if known and not np.all(np.asarray(strong_convexity) <= np.asarray(smoothness)):
        raise ValueError(
            "strong_convexity must be in (0, smoothness], got "
            f"{strong_convexity!r} with smoothness {smoothness!r}"
        )
    if block is not None:
        block = validation.integer_in("block", block, 1, 2 ** (_LEVELS - 1))
        if block & (block - 1):
            raise ValueError(f"block must be a power of 2, got {block}")

    # Known curvatures are computed with once, in double precision.
    xp: Any = np if known else jnp
    dtype = np.dtype(float) if known else jnp.result_type(float)
    kappa = xp.asarray(smoothness).astype(dtype) / xp.asarray(strong_convexity).astype(dtype)
    inside, last = _steps_of_levels(kappa, xp)
    k = _published_levels(kappa, xp) if block is None else block.bit_length() - 1

    def schedule(count: ArrayLike) -> jax.Array:
        i = steps_done(count) + 1
        ends = i % jnp.left_shift(1, k) == 0
        h = jnp.where(ends, _at(last, k), _at(inside, _exponent_of_2(i)))
        return divide(h, smoothness)

    return schedule


def _published_levels(kappa: Any, xp: Any) -> Any:
    levels = xp.floor(xp.log(kappa / 3) / math.log(RHO)).astype(np.int32)
    return xp.clip(levels, 0, _LEVELS - 1)


def _steps_of_levels(kappa: Any, xp: Any) -> tuple[Any, Any]:
    """Returns psi(y_1), psi(y_2), ... and psi(z_0), psi(z_1), ..., each on a new first axis."""

    def psi(t: Any) -> Any:
        return (1 + t * kappa) / (1 + t)

    z, inside, last = 1 / kappa, [], []
    for _ in range(_LEVELS):
        s = 1 - z + xp.sqrt(1 + (1 - z) ** 2)
        last.append(psi(z))
        inside.append(psi(z / s))
        z = z * s
    return xp.stack(inside), xp.stack(last)


def _at(steps: Any, level: Any) -> jax.Array:
    """Returns the steps of these levels; levels broadcast against all axes but the first."""
    steps, level = jnp.asarray(steps, jnp.result_type(float)), jnp.asarray(level)
    shape = jnp.broadcast_shapes(steps.shape[1:], level.shape)
    new = range(1, 1 + len(shape) - len(steps.shape[1:]))
    steps = jnp.broadcast_to(jnp.expand_dims(steps, tuple(new)), (len(steps), *shape))
    return jnp.take_along_axis(steps, jnp.broadcast_to(level, shape)[None], axis=0)[0]


def _warn_if_worse(horizon: int) -> None:
    """Warns if constant steps have a better guarantee at this horizon."""
    gap = RHO ** (-2 * horizon.bit_count()) / 2  # of L x^2 / 2, in units of L D^2
    constant = 1 / (4 * horizon + 2)
    if gap <= constant:
        return
    below = 2 ** (horizon.bit_length() - 1) - 1
    above = 2 * below + 1
    warnings.warn(
        f"horizon={horizon} stops silver steps soon after a long one: the loss may be "
        f"{gap:.3g} L D^2 above its minimum, with constant steps {constant:.3g} L D^2; use "
        f"horizon={below} or horizon={above}, or obs_f(smoothness, {horizon})",
        UserWarning,
        stacklevel=3,
    )


def steps_done(count: ArrayLike) -> jax.Array:
    """Returns the count as an int32 that can be incremented; it saturates, as in optax."""
    return jnp.clip(jnp.asarray(count), 0, _LAST).astype(jnp.int32)


def _exponent_of_2(i: jax.Array) -> jax.Array:
    """Returns the exponent of 2 in i > 0."""
    return jax.lax.population_count(~i & (i - 1))


def look_up(table: np.ndarray, index: jax.Array) -> jax.Array:
    """Returns entries of a table in JAX's default float dtype; indices are clipped."""
    return jnp.asarray(table, jnp.result_type(float)).at[index].get(mode="clip")


def divide(h: jax.Array, smoothness: ArrayLike) -> jax.Array:
    """Returns h / L in the dtype of h."""
    return h / jnp.asarray(smoothness).astype(h.dtype)
