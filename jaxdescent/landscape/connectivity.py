"""The loss on the line between two points, and its barrier.

    barrier       max over a in [0, 1] of  L((1 - a) w0 + a w1) - ((1 - a) L(w0) + a L(w1))
    instability   max over a in [0, 1] of  L((1 - a) w0 + a w1) - (L(w0) + L(w1)) / 2

Two networks are linearly mode connected if the barrier is zero. Entezari et al. define the barrier,
Frankle et al. the instability; they call two networks connected if the instability of the error is
below 2%. Both numbers are equal if both ends have the same loss. Otherwise the barrier is more
meaningful: if the loss decreases linearly from one end to the other, the barrier is 0, but the
instability is half of the decrease. Both are computed at a finite number of points, so a narrow
ridge between two of these points is missed.

Batch normalization statistics that belong to the weights at the ends do not fit weights on the line
between them. The loss should recompute the statistics from its batch; otherwise the barrier
measures this mismatch (Jordan et al.).

Sources: J. Frankle et al. 2020, arXiv:1912.05671; R. Entezari et al. 2022, arXiv:2110.06296;
K. Jordan et al. 2023, arXiv:2211.08403.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import arguments
from jaxdescent.landscape.planes import not_finite
from jaxdescent.landscape.points import LossFn, losses_of_sums
from jaxdescent.numerics import at_least_float32


class Connectivity(NamedTuple):
    """The loss on the line through two points.

    Attributes:
      x: f[n], 0 at the first point and 1 at the second.
      values: f[n], losses; non-finite losses are kept.
      ends: f[2], losses of the two points.
      barrier: f[], largest difference between the loss and the linear interpolation of the
        two end losses, for x in [0, 1]; NaN if a loss there is NaN.
      instability: f[], largest difference between the loss and the mean of the end losses.
      metrics: f[n], the metric; None without `metric_fn`.
      metric_barrier: f[], largest difference between the linear interpolation of the two end
        metrics and the metric, such as the accuracy that is lost; None without `metric_fn`.
      not_finite: i32[], number of non-finite losses.
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
    """Computes the loss on the line through two points, and the barrier between them.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      first: pytree of real arrays, the point at 0.
      second: pytree like `first`, the point at 1.
      batch: pytree of arrays, passed to `loss_fn`.
      x: f[n]; by default 51 from 0 to 1. Points outside of [0, 1] are evaluated but do not
        count for the barrier.
      metric_fn: called as `metric_fn(params, batch)`; returns a scalar for which larger is
        better, such as the accuracy.
      memory: as for `plane`.

    Returns:
      A `Connectivity`. Both ends are always evaluated and count for the barrier.

    Raises:
      ValueError: the points differ in structure or are equal, or as for `line`.

    Example:
      >>> import jax.numpy as jnp
      >>> def two_wells(w, _):
      ...     return jnp.sum((w**2 - 1) ** 2)
      >>> found = connectivity(two_wells, -jnp.ones(3), jnp.ones(3))
      >>> float(found.barrier), found.ends.tolist()
      (3.0, [0.0, 0.0])
    """
    xs = np.linspace(0.0, 1.0, 51) if x is None else arguments.as_coordinates("x", x)
    arguments.check_params("first", first)
    validation.shaped_like("second", second, first, "first")
    arguments.check_params("second", second)
    validation.check_scalar_output("loss_fn", loss_fn, first, batch)
    if _same(first, second):
        raise ValueError("second must differ from first, got equal parameters")
    at = np.concatenate([xs, [0.0, 1.0]])
    weights = np.stack([1.0 - at, at], axis=1)
    losses = losses_of_sums(loss_fn, [first, second], weights, batch, memory)
    inside = jnp.asarray((at >= 0) & (at <= 1))
    metrics = metric_barrier = None
    if metric_fn is not None:
        validation.check_scalar_output("metric_fn", metric_fn, first, batch)
        measured = losses_of_sums(metric_fn, [first, second], weights, batch, memory)
        metrics, metric_barrier = (
            measured[:-2],
            _barrier(-measured.astype(at_least_float32(measured.dtype)), at),
        )
    wide = losses.astype(at_least_float32(losses.dtype))
    return Connectivity(
        x=jnp.asarray(xs, wide.dtype),
        values=losses[:-2],
        ends=losses[-2:],
        barrier=_barrier(wide, at),
        instability=_largest(wide - jnp.mean(wide[-2:]), inside),
        metrics=metrics,
        metric_barrier=metric_barrier,
        not_finite=not_finite(losses[:-2]),
    )


def barrier(x: jax.Array | np.ndarray, values: jax.Array, ends: jax.Array) -> jax.Array:
    """Returns f[], the largest excess of values on a line over the chord between its ends.

    Args:
      x: f[n], coordinates, 0 at the first end and 1 at the second; others are ignored.
      values: f[n], the values at `x`.
      ends: f[2], the values at the ends.

    Example:
      >>> import jax.numpy as jnp
      >>> float(barrier(jnp.array([0.25, 0.5]), jnp.array([2.0, 2.0]), jnp.array([0.0, 2.0])))
      1.5
    """
    along = jnp.asarray(x, values.dtype)
    chord = (1 - along) * ends[0] + along * ends[1]
    return _largest(values - chord, jnp.asarray((x >= 0) & (x <= 1)))


def _barrier(values: jax.Array, at: np.ndarray) -> jax.Array:
    return barrier(at, values, values[-2:])


def _largest(excess: jax.Array, inside: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(inside, excess, -jnp.inf))


def _same(first: Any, second: Any) -> bool:
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    if any(isinstance(leaf, jax.core.Tracer) for pair in pairs for leaf in pair):
        return False
    return all(bool(jnp.all(jnp.asarray(a) == jnp.asarray(b))) for a, b in pairs)
