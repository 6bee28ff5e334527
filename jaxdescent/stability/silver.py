"""Silver step sizes: gradient descent, faster by steps that are now and then far too long.

Steps are h_i / L, i = 1, 2, ...; nu(i) counts how often 2 divides i, and rho = 1 + sqrt(2).

    convex                 h_i = 1 + rho^(nu(i) - 1)
    strongly convex        h_i = psi(y_(nu(i) + 1)), the last of a block of 2^k is psi(z_k)
                           psi(t) = (1 + t L / mu) / (1 + t),   y_0 = z_0 = mu / L,
                           s = 1 - z + sqrt(1 + (1 - z)^2),   y' = z / s,   z' = z s

A step above 2 / L raises the loss along sharp directions, which the short steps around it
have damped. Stopping anywhere but at the end of a block takes the harm without the repair.

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
_LAST = 2**31 - 2  # the greatest count whose successor is an int32, too
_LEVELS = 31  # nu of an int32
_STEPS = 1 + RHO ** (np.arange(_LEVELS) - 1.0)


def silver(smoothness: ArrayLike, horizon: int | None = None) -> optax.Schedule:
    """The silver step sizes for smooth convex functions.

    After n = 2^k - 1 steps f - f* <= L D^2 / (2 + 4 sum(h)), where sum(h) = rho^k - 1 and D
    is the distance from the start to a minimum: about n^-1.27 instead of the 1 / n of
    constant steps. The schedule goes on for ever and keeps this promise at every such n.
    In between it makes none, and just after a long step it may be far off: the function
    L x^2 / 2 is at L D^2 rho^(-2 b) / 2, with b the number of ones in n in binary. So
    n = 4, 8, 16, ... all leave .0858 L D^2.

    Args:
      smoothness: L, the greatest curvature, above 0; a number or an array, which may be
        traced. If it is too small by a percent, long horizons diverge.
      horizon: the number of steps after which the parameters will be used. Steps after it
        are 1 / L, which raise the loss nowhere. None: silver steps for ever.

    Returns:
      A schedule, from the count of steps done (from 0; may be traced) to the next step size.

    Raises:
      TypeError: `smoothness` is not a number.
      ValueError: one is out of range.

    Warns:
      UserWarning: constant steps of 1 / L guarantee more at this horizon.

    Example:
      >>> steps = silver(smoothness=2.0)
      >>> [round(float(steps(count)), 4) for count in range(4)]
      [0.7071, 1.0, 0.7071, 1.7071]
      >>> tx = optax.sgd(silver(smoothness=2.0, horizon=63))
    """
    positive("smoothness", smoothness)
    if horizon is not None:
        horizon = validation.integer_in("horizon", horizon, 1)
        _warn_if_it_loses(horizon)

    def schedule(count: ArrayLike) -> jax.Array:
        count = steps_done(count)
        h = look_up(_STEPS, twos(count + 1))
        if horizon is not None:
            h = jnp.where(count < min(horizon, _LAST + 1), h, 1)
        return over(h, smoothness)

    return schedule


def silver_strongly_convex(
    smoothness: ArrayLike, strong_convexity: ArrayLike, block: int | None = None
) -> optax.Schedule:
    """The silver step sizes for smooth and strongly convex functions.

    Every block of 2^k steps brings the squared distance to the minimum down to
    ((1 - z_k) / (1 + z_k))^2 of what it was: about kappa^.786 log(1 / eps) steps in all, for
    kappa = L / mu, instead of the kappa log(1 / eps) of constant steps. Blocks repeat for
    ever; stop at the end of one. With a block of 1 the step is 2 / (L + mu).

    Args:
      smoothness: L, the greatest curvature, above 0; a number or an array, which may be
        traced.
      strong_convexity: mu, the least curvature, in (0, L]; as `smoothness`.
      block: steps of a block, a power of 2. None: 2^floor(log_rho(kappa / 3)), as published;
        longer blocks gain little more, and end later.

    Returns:
      A schedule, from the count of steps done (from 0; may be traced) to the next step size.

    Raises:
      TypeError: a curvature is not a number.
      ValueError: one is out of range.

    Example:
      >>> steps = silver_strongly_convex(smoothness=3.2, strong_convexity=0.1, block=4)
      >>> [round(float(3.2 * steps(count)), 4) for count in range(5)]
      [1.4049, 1.9679, 1.4049, 5.4795, 1.4049]
    """
    positive("smoothness", smoothness)
    positive("strong_convexity", strong_convexity)
    told = known(smoothness) and known(strong_convexity)
    if told and not np.all(np.asarray(strong_convexity) <= np.asarray(smoothness)):
        raise ValueError(
            "strong_convexity must be in (0, smoothness], got "
            f"{strong_convexity!r} with smoothness {smoothness!r}"
        )
    if block is not None:
        block = validation.integer_in("block", block, 1, 2 ** (_LEVELS - 1))
        if block & (block - 1):
            raise ValueError(f"block must be a power of 2, got {block}")

    # What is known is computed once, and in double precision.
    xp: Any = np if told else jnp
    dtype = np.dtype(float) if told else jnp.result_type(float)
    kappa = xp.asarray(smoothness).astype(dtype) / xp.asarray(strong_convexity).astype(dtype)
    inside, last = _steps_of_levels(kappa, xp)
    k = _published_levels(kappa, xp) if block is None else block.bit_length() - 1

    def schedule(count: ArrayLike) -> jax.Array:
        i = steps_done(count) + 1
        ends = i % jnp.left_shift(1, k) == 0
        return over(jnp.where(ends, _at(last, k), _at(inside, twos(i))), smoothness)

    return schedule


def _published_levels(kappa: Any, xp: Any) -> Any:
    levels = xp.floor(xp.log(kappa / 3) / math.log(RHO)).astype(np.int32)
    return xp.clip(levels, 0, _LEVELS - 1)


def _steps_of_levels(kappa: Any, xp: Any) -> tuple[Any, Any]:
    """The steps psi(y_1), psi(y_2), ... and psi(z_0), psi(z_1), ..., on a new first axis."""
    psi = lambda t: (1 + t * kappa) / (1 + t)
    z, inside, last = 1 / kappa, [], []
    for _ in range(_LEVELS):
        s = 1 - z + xp.sqrt(1 + (1 - z) ** 2)
        last.append(psi(z))
        inside.append(psi(z / s))
        z = z * s
    return xp.stack(inside), xp.stack(last)


def _at(steps: Any, level: Any) -> jax.Array:
    """The entries of levels, by the rules of broadcasting beside the first axis of steps."""
    steps, level = jnp.asarray(steps, jnp.result_type(float)), jnp.asarray(level)
    shape = jnp.broadcast_shapes(steps.shape[1:], level.shape)
    new = range(1, 1 + len(shape) - len(steps.shape[1:]))
    steps = jnp.broadcast_to(jnp.expand_dims(steps, tuple(new)), (len(steps), *shape))
    return jnp.take_along_axis(steps, jnp.broadcast_to(level, shape)[None], axis=0)[0]


def _warn_if_it_loses(horizon: int) -> None:
    gap = RHO ** (-2 * horizon.bit_count()) / 2  # of L x^2 / 2, in units of L D^2
    constant = 1 / (4 * horizon + 2)
    if gap <= constant:
        return
    below = 2 ** (horizon.bit_length() - 1) - 1
    above = 2 * below + 1
    warnings.warn(
        f"horizon={horizon} stops silver steps soon after a long one: {gap:.3g} L D^2 may be "
        f"left, with constant steps {constant:.3g}; use horizon={below} or horizon={above}, or "
        f"obs_f(smoothness, {horizon})",
        UserWarning,
        stacklevel=3,
    )


def known(value: Any) -> bool:
    """Whether the contents of an array can be looked at now."""
    return not isinstance(value, jax.core.Tracer)


def positive(name: str, value: Any) -> None:
    """Raises if a number or array is known and not positive and finite."""
    if known(value):
        validation.open_interval(name, value, 0.0, math.inf)


def steps_done(count: ArrayLike) -> jax.Array:
    """A count as i32 that can be incremented; it saturates, as optax's counts do."""
    return jnp.clip(jnp.asarray(count), 0, _LAST).astype(jnp.int32)


def twos(i: jax.Array) -> jax.Array:
    """How often 2 divides i > 0."""
    return jax.lax.population_count(~i & (i - 1))


def look_up(table: np.ndarray, index: jax.Array) -> jax.Array:
    """Entries of a table in jax's default float; an index beyond an end gives that end."""
    return jnp.asarray(table, jnp.result_type(float)).at[index].get(mode="clip")


def over(h: jax.Array, smoothness: ArrayLike) -> jax.Array:
    """Steps for a smoothness of 1, over L, in their dtype."""
    return h / jnp.asarray(smoothness).astype(h.dtype)
