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
    key = jax.random.key(0) if key is None else key
    return _epsilon_sharpness(
        loss_fn, subspace, num_steps, num_starts, params, batch, jnp.asarray(epsilon), key
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _epsilon_sharpness(
    loss_fn: LossFn,
    subspace: int | None,
    num_steps: int,
    num_starts: int,
    params: Any,
    batch: Any,
    epsilon: jax.Array,
    key: jax.Array,
) -> EpsilonSharpness:
    wide = jax.tree.map(lambda leaf: leaf.astype(inputs.wide(leaf.dtype)), params)
    chart, starts = jax.random.split(key)
    if subspace is None:
        within, there = wide, lambda y: jax.tree.map(jnp.add, wide, y)
    else:
        columns, within = _subspace(wide, subspace, chart)
        there = lambda y: jax.tree.map(
            lambda x, a: x + jnp.tensordot(y.astype(x.dtype), a, 1), wide, columns
        )
    sides = jax.tree.map(lambda x: epsilon.astype(x.dtype) * (jnp.abs(x) + 1), within)

    def height(y: Any) -> jax.Array:
        own = jax.tree.map(lambda x, leaf: x.astype(leaf.dtype), there(y), params)
        return loss_fn(own, batch)

    def ascend(start: Any) -> tuple[jax.Array, Any, jax.Array]:
        def step(carry: Any, turn: jax.Array) -> tuple[Any, jax.Array]:
            y, highest = carry
            value, slope = jax.value_and_grad(height)(y)
            length = 2 * (1 - turn / num_steps)
            move = lambda p, g, s: jnp.clip(p + length * s * jnp.sign(g), -s, s)
            return (jax.tree.map(move, y, slope, sides), _higher((value, y), highest)), value

        turns = jnp.arange(num_steps + 1, dtype=jax.tree.leaves(sides)[0].dtype)
        nothing = jnp.full_like(jax.eval_shape(height, start), -jnp.inf)
        (_, (highest, place)), values = jax.lax.scan(step, (start, (nothing, start)), turns)
        return highest, place, values[0]

    def start(i: jax.Array) -> Any:
        keys = jax.random.split(jax.random.fold_in(starts, i), len(jax.tree.leaves(sides)))
        keys = jax.tree.unflatten(jax.tree.structure(sides), keys)
        inside = lambda k, s: s * jax.random.uniform(k, s.shape, s.dtype, -1)
        random = jax.tree.map(inside, keys, sides)
        return jax.tree.map(lambda r: jnp.where(i == 0, 0, r), random)

    found, places, first = jax.lax.map(lambda i: ascend(start(i)), jnp.arange(num_starts))
    best = jnp.argmax(jnp.where(jnp.isnan(found), jnp.inf, found))
    loss, highest = first[0], found[best]  # the first start is the parameters
    point = there(jax.tree.map(lambda leaf: leaf[best], places))
    return EpsilonSharpness(100 * (highest - loss) / (1 + loss), loss, highest, point)


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


Found = tuple[jax.Array, Any]


def _higher(candidate: Found, best: Found) -> Found:
    """The higher of two values with its place; what is not a number is higher than all."""
    over = ~(candidate[0] <= best[0]) & ~jnp.isnan(best[0])
    return jax.tree.map(lambda a, b: jnp.where(over, a, b), candidate, best)
