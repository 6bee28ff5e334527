"""Different optimizers for different agents of one population.

    update = updates[index],    all of them computed

Agents are rows of one array, so they run one program: a group that descends otherwise takes its
own optimizer's update from among all.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation


def select_optimizer(
    optimizers: Sequence[optax.GradientTransformation], index: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of this index, with the state of all.

    It costs the time and the memory of all of them together, gradients apart. The others see
    the same gradients, and their states are those of optimizers that were overruled.

    Args:
      optimizers: at least one, alike in what they return.
      index: i32[], which; a traced one out of range takes the nearest.

    Raises:
      ValueError: there is none, or the index is out of range.
      TypeError: one is no optimizer.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def mixed(index, learning_rate):
      ...     optimizers = [optax.sgd(learning_rate), optax.adam(learning_rate)]
      ...     return jd.select_optimizer(optimizers, index)
      >>> result = jd.minimize(
      ...     lambda x: jnp.sum(x**2), mixed, init_params=jnp.ones((2, 1)), steps=1, rung=1,
      ...     hyperparams={"index": jnp.array([0, 1]), "learning_rate": jnp.full(2, 0.1)})
      >>> [round(float(x), 3) for x in result.population.params.ravel()]
      [0.8, 0.9]
    """
    if not optimizers:
        raise ValueError("optimizers must be at least one optimizer, got none")
    each = [validation.transformation("optimizers", optimizer) for optimizer in optimizers]
    last = len(each) - 1
    if not isinstance(index, jax.core.Tracer) and validation.number_in("index", index, 0, last) % 1:
        raise ValueError(f"index must be an integer in [0, {last}], got {index!r}")
    chosen = jnp.clip(jnp.asarray(index).astype(jnp.int32), 0, last)

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(tx.init(params) for tx in each)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        found = [
            tx.update(updates, own, params, **extra) for tx, own in zip(each, state, strict=True)
        ]
        select = lambda *leaves: jax.lax.select_n(chosen, *leaves)
        return jax.tree.map(select, *(u for u, _ in found)), tuple(own for _, own in found)

    return optax.GradientTransformationExtraArgs(init, update)
