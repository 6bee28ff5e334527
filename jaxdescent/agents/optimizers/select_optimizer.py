"""Different optimizers for different agents of one population.

    update = updates[index],    where the updates of all optimizers are computed

Agents are rows of one array and run one program, so each computes the update of every optimizer and
selects its own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls


def select_optimizer(
    optimizers: Sequence[optax.GradientTransformation], index: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that applies the updates of one of several optimizers.

    Time and memory are the sum over all optimizers, except that the gradients are computed once.
    The optimizers that are not selected also see these gradients and update their states.

    Args:
      optimizers: at least one; their updates must agree in shapes and dtypes.
      index: i32[], index of the optimizer; a traced index is clipped to the valid range.

    Raises:
      ValueError: there are no optimizers, or the index is out of range.
      TypeError: an element is not an optimizer.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def mixed(index, learning_rate):
      ...     optimizers = [optax.sgd(learning_rate), optax.adam(learning_rate)]
      ...     return jd.select_optimizer(optimizers, index)
      >>> result = jd.minimize(
      ...     lambda x: jnp.sum(x**2), mixed, init_params=jnp.ones((2, 1)), steps=1,
      ...     hyperparams={"index": jnp.array([0, 1]), "learning_rate": jnp.full(2, 0.1)})
      >>> [round(float(x), 3) for x in result.population.params.ravel()]
      [0.8, 0.9]
    """
    if not optimizers:
        raise ValueError(
            f"optimizers must be at least one optimizer, got {validation.shown(optimizers)}"
        )
    transformations = [
        validation.transformation("optimizers", optimizer) for optimizer in optimizers
    ]
    last = len(transformations) - 1
    if not isinstance(index, jax.core.Tracer) and validation.number_in("index", index, 0, last) % 1:
        raise ValueError(f"index must be an integer in [0, {last}], got {validation.shown(index)}")
    selected = jnp.clip(jnp.asarray(index).astype(jnp.int32), 0, last)

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(tx.init(params) for tx in transformations)

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        results = [
            tx.update(updates, tx_state, params, **extra)
            for tx, tx_state in zip(transformations, state, strict=True)
        ]
        all_updates, new_state = zip(*results, strict=True)
        select = partial(jax.lax.select_n, selected)
        return jax.tree.map(select, *all_updates), new_state

    return optax.GradientTransformationExtraArgs(init, update)
