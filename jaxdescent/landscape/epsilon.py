"""Epsilon-sharpness: how far a loss can rise within a small box.

For parameters x and a box around them, the sharpness in percent is

    phi = 100 (max over y in C of f(x + A y) - f(x)) / (1 + f(x)),
    C = {y: |y_i| <= epsilon (|(A^+ x)_i| + 1)},

with A the identity, or n x p with Gaussian columns for a random subspace of p directions, and
A^+ its pseudo-inverse. It depends on how the parameters are scaled: two ReLU networks that
compute the same may have any two sharpnesses (Dinh et al.), so compare like with like.

The maximum is sought by projected ascent from several starts: steps along the sign of the
gradient, as long as the box has sides, that shrink to nothing. A corner that all partial
derivatives point to is reached in the first step. What is found is a lower bound; Keskar et
al. take ten iterations of L-BFGS-B.

Sources: N. Keskar et al. 2017, arXiv:1609.04836; L. Dinh et al. 2017, arXiv:1703.04933.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.landscape import inputs
from jaxdescent.landscape.points import LossFn

Found = tuple[jax.Array, Any]


class EpsilonSharpness(NamedTuple):
    """The sharpness in a box.

    Attributes:
      value: f[], phi, in percent.
      loss: f[], f(x).
      highest: f[], the highest loss that was found in the box.
      point: pytree like the parameters, where it was found, float32 at least.
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
    """How far the loss rises within a box, in percent of one plus the loss.

    Args:
      loss_fn: from (params, batch) to a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, handed on.
      epsilon: half the side of the box, relative to |x_i| + 1. Keskar et al. take 1e-3 and 5e-4.
      subspace: how many random directions, p; by default the full space. It takes p times the
        memory of the parameters.
      num_steps: of ascent; one more gradient is taken than there are steps.
      num_starts: the first is the parameters, the others are random points of the box.
      key: for the starts and the subspace. None for a fixed one.

    Returns:
      An `EpsilonSharpness`. A loss that is not finite in the box is the highest.

    Raises:
      ValueError: an argument is out of its range, a leaf is not of floating point, or the loss
        is no scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w, _: jnp.sum(w**2) / 2  # at 0 the box has sides of epsilon
      >>> round(float(epsilon_sharpness(loss, jnp.zeros(4), epsilon=0.5).value), 4)
      50.0
    """
    inputs.parameters("params", params)
    inputs.scalar_loss("loss_fn", loss_fn, params, batch)
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
    # Not a loop of XLA's, in which gradients of convolutions are many times slower on a CPU.
    for start in range(num_starts):
        y = _start(sides, start, starts)
        for turn in range(num_steps + 1):
            length = 2 * (1 - turn / num_steps)
            y, found, value = _step(loss_fn, params, columns, sides, batch, y, found, length)
            losses.append(value)
    loss, (highest, place) = losses[0], found  # the first start is the parameters
    value = 100 * (highest - loss) / (1 + loss)
    return EpsilonSharpness(value, loss, highest, _there(params, columns, place))


@functools.partial(jax.jit, static_argnums=0)
def _step(
    loss_fn: LossFn,
    params: Any,
    columns: Any,
    sides: Any,
    batch: Any,
    y: Any,
    found: Found,
    length: float,
) -> tuple[Any, Found, jax.Array]:
    """A step of ascent from y, the higher of what was found and is at y, and the loss there."""

    def height(y: Any) -> jax.Array:
        point = _there(params, columns, y)
        own = jax.tree.map(lambda x, leaf: x.astype(jnp.result_type(leaf)), point, params)
        return loss_fn(own, batch)

    value, slope = jax.value_and_grad(height)(y)
    move = lambda p, g, s: jnp.clip(p + length * s * jnp.sign(g), -s, s)
    return jax.tree.map(move, y, slope, sides), _higher((value, y), found), value


@jax.jit
def _start(sides: Any, number: int, key: jax.Array) -> Any:
    """The parameters themselves, or a random point of the box."""
    leaves, structure = jax.tree.flatten(sides)
    keys = jax.random.split(jax.random.fold_in(key, number), len(leaves))
    within = [
        s * jax.random.uniform(k, s.shape, s.dtype, -1) for k, s in zip(keys, leaves, strict=True)
    ]
    return structure.unflatten(jnp.where(number == 0, jnp.zeros_like(y), y) for y in within)


@functools.partial(jax.jit, static_argnums=0)
def _box(subspace: int | None, params: Any, epsilon: jax.Array, key: jax.Array) -> tuple[Any, Any]:
    """The columns of A, None for the identity, and half the sides of the box."""
    wide = jax.tree.map(lambda leaf: leaf.astype(inputs.wide(leaf.dtype)), params)
    columns, within = (None, wide) if subspace is None else _subspace(wide, subspace, key)
    return columns, jax.tree.map(lambda x: epsilon.astype(x.dtype) * (jnp.abs(x) + 1), within)


def _there(params: Any, columns: Any, y: Any) -> Any:
    """The point x + A y, in float32 at least."""
    wide = jax.tree.map(lambda x: jnp.asarray(x).astype(inputs.wide(jnp.result_type(x))), params)
    if columns is None:
        return jax.tree.map(jnp.add, wide, y)
    return jax.tree.map(lambda x, a: x + jnp.tensordot(y.astype(x.dtype), a, 1), wide, columns)


def _subspace(params: Any, number: int, key: jax.Array) -> tuple[Any, jax.Array]:
    """The columns of A, trees with an axis [p], and A^+ x."""
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
    """The higher of two values with its place; what is not a number is higher than all."""
    over = ~(candidate[0] <= best[0]) & ~jnp.isnan(best[0])
    return jax.tree.map(lambda a, b: jnp.where(over, a, b), candidate, best)
