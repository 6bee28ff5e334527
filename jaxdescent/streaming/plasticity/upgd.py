"""Utility-based perturbed gradient descent.

    u <- b u - (1 - b) g x               utility: minus the loss's slope along the weight
    s = sigmoid(u / (1 - b^t) / max u)   near 1 for the most useful weights; max over all weights
    x <- (1 - r d) x - r (g + noise) (1 - s)

The maximum is of the utilities before their bias correction, as in the published code: in the
first steps, weights of positive utility hardly move. Where no utility is positive, s = 1/2.

Source: M. Elsayed, A. R. Mahmood 2024, "Addressing loss of plasticity and catastrophic forgetting
in continual learning", arXiv:2404.00781. The README of its code multiplies r by 2; its experiments
do not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import at_least_float32, widest_float


class UpgdState(NamedTuple):
    """State of `upgd`.

    Attributes:
      utility: u, like the parameters, in float32 or wider.
      count: i32[], number of updates until now.
      key: random key of the next noise.
    """

    utility: Any
    count: jax.Array
    key: jax.Array


def upgd(
    learning_rate: float | jax.Array,
    key: jax.Array,
    *,
    decay: float | jax.Array = 0.999,
    noise: float | jax.Array = 1e-3,
    weight_decay: float | jax.Array = 1e-3,
    protect: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent that moves useful weights less, and perturbs the weights of little use.

    A utility that is not finite is not stored.

    Args:
      learning_rate: r, a number in (0, inf).
      key: a random key.
      decay: b, of the moving average of utilities, a number in [0, 1).
      noise: standard deviation of the noise, a number in [0, inf).
      weight_decay: d, a number in [0, inf).
      protect: False multiplies only the noise by 1 - s, not the gradient ("non-protecting").

    Returns:
      A transformation, whose update needs the parameters.

    Raises:
      TypeError: `key` is not a random key.
      ValueError: another argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> tx = jd.streaming.upgd(0.1, jax.random.key(0), noise=0.0, weight_decay=0.0)
      >>> x = jnp.array([1.0, 1.0])
      >>> updates, state = tx.update(jnp.array([-1.0, 1.0]), tx.init(x), x)
      >>> abs(updates)  # the first weight is useful: a smaller one raises the loss
      Array([0. , 0.1], dtype=float32)
    """
    validation.positive_number("learning_rate", learning_rate)
    key = validation.random_key("key", key)
    validation.half_open_interval("decay", decay, 0, 1)
    validation.check_non_negative("noise", noise)
    validation.check_non_negative("weight_decay", weight_decay)
    if not isinstance(protect, bool):
        raise ValueError(f"protect must be True or False, got {validation.shown(protect)}")

    def init(params: Any) -> UpgdState:
        validation.check_floating("params", params)

        def zeros(x: Any) -> jax.Array:
            return jnp.zeros(np.shape(x), at_least_float32(jnp.result_type(x)))

        return UpgdState(jax.tree.map(zeros, params), jnp.zeros((), jnp.int32), key)

    @compile_eager_calls
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, UpgdState]:
        del extra
        if params is None:
            raise ValueError("update(grads, state, params) needs params, whose utility is measured")
        params = containers.params_like(params, updates)
        wide = widest_float(updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        next_key, noise_key = jax.random.split(state.key)

        def follow(u: jax.Array, g: jax.Array, x: jax.Array) -> jax.Array:
            new = decay * u - (1 - decay) * (g.astype(u.dtype) * x.astype(u.dtype))
            return jnp.where(jnp.isfinite(new), new, u).astype(u.dtype)

        utility = jax.tree.map(follow, state.utility, updates, params)
        highest = [jnp.max(u, initial=0).astype(wide) for u in jax.tree.leaves(utility)]
        largest = jnp.max(jnp.stack(highest)) if highest else jnp.zeros((), wide)
        correction = 1 - jnp.asarray(decay, wide) ** count

        def step(g: jax.Array, u: jax.Array, x: jax.Array, xi: jax.Array) -> jax.Array:
            ratio = u / jnp.where(largest > 0, correction * largest, jnp.inf)
            free = 1 - jax.nn.sigmoid(ratio)
            xi = noise * xi * free
            moved = g * free + xi if protect else g + xi
            return (-learning_rate * (moved + weight_decay * x)).astype(g.dtype)

        xi = optax.tree.random_like(noise_key, utility, jax.random.normal)
        new = jax.tree.map(step, updates, utility, params, xi)
        return new, UpgdState(utility, count, next_key)

    return optax.GradientTransformationExtraArgs(init, update)
