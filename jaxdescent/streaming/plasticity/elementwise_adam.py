"""Adam with a count of steps for each weight.

Adam corrects the bias of its moments by one count for all weights. When a hidden unit is replaced
and its moments begin at 0 again, the count has to begin again, too: with the old count the first
steps would be (1 - b1) / sqrt(1 - b2) = 3.2 times the learning rate.

Source of the count per weight: S. Dohare et al. 2024, Nature 632, whose code has it for continual
backpropagation. Adam: D. Kingma, J. Ba, arXiv:1412.6980.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import at_least_float32


class ElementwiseAdamState(NamedTuple):
    """State of `elementwise_adam`; all like the parameters.

    Attributes:
      counts: i32, number of steps of each weight.
      mu: moving average of gradients.
      nu: moving average of squared gradients.
    """

    counts: Any
    mu: Any
    nu: Any


def elementwise_adam(
    learning_rate: float | jax.Array,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Adam with a count for each weight, which wrappers that replace units set to 0.

    Without replacements it is `optax.adam`.

    Args:
      learning_rate: a number in (0, inf).
      b1: decay of the average of gradients, in [0, 1).
      b2: decay of the average of squared gradients, in [0, 1).
      eps: added to the denominator, a number in (0, inf).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> tx, x = jd.streaming.elementwise_adam(0.5), jnp.ones(2)
      >>> tx.update(jnp.array([3.0, -2.0]), tx.init(x), x)[0].round(1)
      Array([-0.5,  0.5], dtype=float32)
    """
    validation.positive_number("learning_rate", learning_rate)
    validation.half_open_interval("b1", b1, 0, 1)
    validation.half_open_interval("b2", b2, 0, 1)
    validation.positive_number("eps", eps)

    def zeros(x: Any) -> jax.Array:
        return jnp.zeros(np.shape(x), at_least_float32(jnp.result_type(x)))

    def init(params: Any) -> ElementwiseAdamState:
        validation.check_floating("params", params)
        counts = jax.tree.map(lambda x: jnp.zeros(np.shape(x), jnp.int32), params)
        return ElementwiseAdamState(
            counts, jax.tree.map(zeros, params), jax.tree.map(zeros, params)
        )

    @compile_eager_calls
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        counts = jax.tree.map(lambda n: jnp.asarray(optax.safe_increment(n)), state.counts)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g.astype(m.dtype), state.mu, updates)
        nu = jax.tree.map(
            lambda v, g: b2 * v + (1 - b2) * jnp.square(g.astype(v.dtype)), state.nu, updates
        )

        def step(g: jax.Array, n: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            mean = m / (1 - jnp.asarray(b1, m.dtype) ** n)
            square = v / (1 - jnp.asarray(b2, v.dtype) ** n)
            return (-learning_rate * mean / (jnp.sqrt(square) + eps)).astype(g.dtype)

        new = jax.tree.map(step, updates, counts, mu, nu)
        return new, ElementwiseAdamState(counts, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)
