"""What lies between two points: the loss on the line that joins them, and its barrier.

    barrier       max over a in [0, 1] of  L((1 - a) w0 + a w1) - ((1 - a) L(w0) + a L(w1))
    instability   max over a in [0, 1] of  L((1 - a) w0 + a w1) - (L(w0) + L(w1)) / 2

Two networks are linearly mode connected if there is no barrier. The barrier is that of Entezari
et al., the instability that of Frankle et al., who call two networks connected if it is below
2 % of error. They are the same where both ends have the same loss, else the barrier is the fairer:
the instability of a fall is half of it. Both are of the points that were looked at, so that a
narrow ridge between two of them is missed.

A network with batch normalization has statistics that fit its own weights and no mixture: let
the loss recompute them from its batch, or the barrier is theirs (Jordan et al.).

Sources: J. Frankle et al. 2020, arXiv:1912.05671; R. Entezari et al. 2022, arXiv:2110.06296;
K. Jordan et al. 2023, arXiv:2211.08403.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import inputs
from jaxdescent.landscape.planes import not_finite
from jaxdescent.landscape.points import LossFn, losses_of_sums


class Connectivity(NamedTuple):
    """The line between two points.

    Attributes:
      x: f[n], 0 at the first point and 1 at the second.
      values: f[n], the losses, not finite where the loss is not.
      ends: f[2], the losses of the two points.
      barrier: f[], the most that the loss is above the straight line between those of the
        ends, for x in [0, 1]; NaN if a loss there is.
      instability: f[], the most that it is above their mean.
      metrics: f[n], the metric; None without one.
      metric_barrier: f[], the most that the metric is below the straight line between those of
        the ends, which is how much accuracy is lost; None without one.
      not_finite: i32[], how many losses are not finite.
    """

    x: jax.Array
    values: jax.Array
    ends: jax.Array
    barrier: jax.Array
    instability: jax.Array
    metrics: jax.Array | None
    metric_barrier: jax.Array | None
    not_finite: jax.Array


def connectivity(
    loss_fn: LossFn,
    first: Any,
    second: Any,
    batch: Any = None,
    /,
    *,
    x: ArrayLike | None = None,
    metric_fn: LossFn | None = None,
    memory: int | None = None,
) -> Connectivity:
    """The loss on the line through two points, and the barrier between them.

    Args:
      loss_fn: from (params, batch) to a scalar.
      first: pytree of real arrays, the point at 0.
      second: pytree like it, the point at 1.
      batch: pytree of arrays, handed on.
      x: f[n]; by default 51 from 0 to 1. Points outside of [0, 1] are shown and do not count
        for the barrier.
      metric_fn: from (params, batch) to a scalar of which more is better, such as an accuracy.
      memory: as for `plane`.

    Returns:
      A `Connectivity`. The ends count as points wherever `x` is.

    Raises:
      ValueError: the points are not alike, or the same; or as `line` does.

    Example:
      >>> import jax.numpy as jnp
      >>> two_wells = lambda w, _: jnp.sum((w**2 - 1) ** 2)
      >>> found = connectivity(two_wells, -jnp.ones(3), jnp.ones(3))
      >>> float(found.barrier), found.ends.tolist()
      (3.0, [0.0, 0.0])
    """
    xs = np.linspace(0.0, 1.0, 51) if x is None else inputs.coordinates("x", x)
    inputs.parameters("first", first)
    validation.shaped_like("second", second, first, "first")
    inputs.parameters("second", second)
    inputs.scalar_loss("loss_fn", loss_fn, first, batch)
    if _same(first, second):
        raise ValueError("second must differ from first, got the same numbers")
    at = np.concatenate([xs, [0.0, 1.0]])
    weights = np.stack([1.0 - at, at], axis=1)
    losses = losses_of_sums(loss_fn, [first, second], weights, batch, memory)
    inside = jnp.asarray((at >= 0) & (at <= 1))
    metrics = metric_barrier = None
    if metric_fn is not None:
        inputs.scalar_loss("metric_fn", metric_fn, first, batch)
        measured = losses_of_sums(metric_fn, [first, second], weights, batch, memory)
        metrics, metric_barrier = (
            measured[:-2],
            _barrier_of_ends_last(at, -measured.astype(inputs.wide(measured.dtype))),
        )
    wide = losses.astype(inputs.wide(losses.dtype))
    return Connectivity(
        x=jnp.asarray(xs, wide.dtype),
        values=losses[:-2],
        ends=losses[-2:],
        barrier=_barrier_of_ends_last(at, wide),
        instability=_most(wide - jnp.mean(wide[-2:]), inside),
        metrics=metrics,
        metric_barrier=metric_barrier,
        not_finite=not_finite(losses[:-2]),
    )


def barrier(x: jax.Array | np.ndarray, values: jax.Array, ends: jax.Array) -> jax.Array:
    """Returns f[], the most that values on a line exceed the chord between the values at its ends.

    Args:
      x: f[n], coordinates, 0 at the first end and 1 at the second; others are ignored.
      values: f[n], the values there.
      ends: f[2], the values at the ends.

    Example:
      >>> import jax.numpy as jnp
      >>> float(barrier(jnp.array([0.25, 0.5]), jnp.array([2.0, 2.0]), jnp.array([0.0, 2.0])))
      1.5
    """
    along = jnp.asarray(x, values.dtype)
    chord = (1 - along) * ends[0] + along * ends[1]
    return _most(values - chord, jnp.asarray((x >= 0) & (x <= 1)))


def _barrier_of_ends_last(x: np.ndarray, values: jax.Array) -> jax.Array:
    return barrier(x, values, values[-2:])


def _most(excess: jax.Array, inside: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(inside, excess, -jnp.inf))


def _same(first: Any, second: Any) -> bool:
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    if any(isinstance(leaf, jax.core.Tracer) for pair in pairs for leaf in pair):
        return False
    return all(bool(jnp.all(jnp.asarray(a) == jnp.asarray(b))) for a, b in pairs)
