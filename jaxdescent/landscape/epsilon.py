"""Epsilon-sharpness: the largest increase of a loss within a small box.

For parameters x and a box around them, the sharpness, in percent, is

    phi = 100 (max over y in C of f(x + A y) - f(x)) / (1 + f(x)),
    C = {y: |y_i| <= epsilon (|(A^+ x)_i| + 1)},

with A the identity, or n x p with Gaussian columns for a random subspace of p directions, and
A^+ its pseudo-inverse. It depends on the scale of the parameters: two ReLU networks that compute
the same function can have very different sharpness (Dinh et al.). Compare only networks of the
same scale.

The maximum is searched by projected ascent from several initial points. Steps follow the sign of
the gradient; their length decreases linearly from the side of the box to zero. If all partial
derivatives point to one corner, the first step reaches it. The result is a lower bound. Keskar et
al. use ten iterations of L-BFGS-B.

Sources: N. Keskar et al. 2017, arXiv:1609.04836; L. Dinh et al. 2017, arXiv:1703.04933.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import arguments
from jaxdescent.landscape.points import LossFn
from jaxdescent.numerics import at_least_float32
from jaxdescent.programs import compiled

Found = tuple[jax.Array, Any]


class EpsilonSharpness(NamedTuple):
    """The epsilon-sharpness, with the point at which it is attained.

    Attributes:
      value: f[], phi, in percent.
      loss: f[], f(x), the loss at the parameters.
      highest: f[], highest loss found in the box.
      point: pytree like the parameters, the point of that loss, in float32 or wider.
    """

    value: jax.Array
    loss: jax.Array
    highest: jax.Array
    point: Any


def epsilon_sharpness(
    loss_fn: LossFn,
    params: Any,
    batch: Any = None,
    /,
    *,
    epsilon: ArrayLike = 1e-3,
    subspace: int | None = None,
    num_steps: int = 10,
    num_starts: int = 2,
    key: jax.Array | None = None,
) -> EpsilonSharpness:
    """Computes the largest increase of the loss in a box, in percent of one plus the loss.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn`.
      epsilon: half the side of the box, relative to |x_i| + 1. Keskar et al. use 1e-3 and 5e-4.
      subspace: number of random directions, p; by default the full space. The directions take p
        times the memory of the parameters.
      num_steps: number of ascent steps; each initial point takes `num_steps + 1` gradients.
      num_starts: number of initial points. The first is the parameters, the others are random
        points of the box.
      key: random key for the initial points and the subspace; None for a fixed key.

    Returns:
      An `EpsilonSharpness`. A non-finite loss in the box counts as the highest.

    Raises:
      ValueError: an argument is out of range, a leaf is not floating point, or the loss is not
        a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, _):
      ...     return jnp.sum(w**2) / 2
      >>> round(float(epsilon_sharpness(loss, jnp.zeros(4), epsilon=0.5).value), 4)
      50.0
    """
    arguments.check_params("params", params)
    validation.check_scalar_output("loss_fn", loss_fn, params, batch)
    validation.positive_number("epsilon", epsilon)
    validation.integer_in("num_steps", num_steps, 1)
    validation.integer_in("num_starts", num_starts, 1)
    size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
    if subspace is not None:
        validation.integer_in("subspace", subspace, 1, size)
    chart, starts = jax.random.split(jax.random.key(0) if key is None else key)
    columns, sides = _box(subspace, params, jnp.asarray(epsilon), chart)
    dtype = jax.eval_shape(loss_fn, params, batch).dtype
    found = jnp.full((), -jnp.inf, dtype), jax.tree.map(jnp.zeros_like, sides)
    losses = []
    # A Python loop: inside an XLA loop, convolution gradients are many times slower on a CPU.
    for start in range(num_starts):
        y = _start(sides, start, starts)
        for turn in range(num_steps + 1):
            length = 2 * (1 - turn / num_steps)
            y, found, value = _step(
                params, columns, sides, batch, y, found, length, loss_fn=loss_fn
            )
            losses.append(value)
    loss, (highest, best) = losses[0], found  # the first initial point is the parameters
    value = 100 * (highest - loss) / (1 + loss)
    return EpsilonSharpness(value, loss, highest, _point_at(params, columns, best))


@compiled("loss_fn")
def _step(
    params: Any,
    columns: Any,
    sides: Any,
    batch: Any,
    y: Any,
    found: Found,
    length: float,
    *,
    loss_fn: LossFn,
) -> tuple[Any, Found, jax.Array]:
    """Takes an ascent step from y; returns the next y, the best point so far, and the loss."""

    def height(y: Any) -> jax.Array:
        point = _point_at(params, columns, y)
        own = jax.tree.map(lambda x, leaf: x.astype(jnp.result_type(leaf)), point, params)
        return loss_fn(own, batch)

    value, slope = jax.value_and_grad(height)(y)

    def move(p: jax.Array, g: jax.Array, s: jax.Array) -> jax.Array:
        # The gradient of a finite loss can be NaN, as for a norm at zero.
        return jnp.clip(p + length * s * jnp.nan_to_num(jnp.sign(g)), -s, s)

    return jax.tree.map(move, y, slope, sides), _higher((value, y), found), value


@jax.jit
def _start(sides: Any, number: int, key: jax.Array) -> Any:
    """Returns the parameters for number 0, else a random point of the box."""
    leaves, structure = jax.tree.flatten(sides)
    keys = jax.random.split(jax.random.fold_in(key, number), len(leaves))
    within = [
        s * jax.random.uniform(k, s.shape, s.dtype, -1) for k, s in zip(keys, leaves, strict=True)
    ]
    return structure.unflatten(jnp.where(number == 0, jnp.zeros_like(y), y) for y in within)


@functools.partial(jax.jit, static_argnums=0)
def _box(subspace: int | None, params: Any, epsilon: jax.Array, key: jax.Array) -> tuple[Any, Any]:
    """Returns the columns of A, or None for the identity, and half the sides of the box."""
    wide = jax.tree.map(lambda leaf: leaf.astype(at_least_float32(leaf.dtype)), params)
    columns, within = (None, wide) if subspace is None else _subspace(wide, subspace, key)
    return columns, jax.tree.map(lambda x: epsilon.astype(x.dtype) * (jnp.abs(x) + 1), within)


def _point_at(params: Any, columns: Any, y: Any) -> Any:
    """Returns the point x + A y, in float32 or wider."""
    wide = jax.tree.map(
        lambda x: jnp.asarray(x).astype(at_least_float32(jnp.result_type(x))), params
    )
    if columns is None:
        return jax.tree.map(jnp.add, wide, y)
    return jax.tree.map(lambda x, a: x + jnp.tensordot(y.astype(x.dtype), a, 1), wide, columns)


def _subspace(params: Any, number: int, key: jax.Array) -> tuple[Any, jax.Array]:
    """Returns the columns of A, a tree with a leading axis [p], and A^+ x."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    columns = [
        jax.random.normal(k, (number, *x.shape), x.dtype) for k, x in zip(keys, leaves, strict=True)
    ]
    with jax.default_matmul_precision("highest"):
        rows = [column.reshape(number, -1) for column in columns]
        gram = sum(row @ row.T for row in rows)
        moments = sum(row @ x.ravel() for row, x in zip(rows, leaves, strict=True))
    return structure.unflatten(columns), jnp.linalg.solve(gram, moments)


def _higher(candidate: Found, best: Found) -> Found:
    """Returns the higher of two values with its point; NaN counts as higher than any number."""
    higher = ~(candidate[0] <= best[0]) & ~jnp.isnan(best[0])
    return jax.tree.map(lambda a, b: jnp.where(higher, a, b), candidate, best)
