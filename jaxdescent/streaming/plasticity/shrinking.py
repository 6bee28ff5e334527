"""Three methods that are all called shrink and perturb.

    once, at a new task     x <- s x + N(0, sigma^2)               `shrink_and_perturb`
    in every step           x <- x + u(g + d x) + N(0, sigma^2)    `continual_shrink_and_perturb`
    in the gradient         x <- (1 - r d) x - r (g + N(0, sigma^2))    `perturbed_descent`

Here g is the gradient, u an optimizer, r its learning rate and d the weight decay. The second and
the third differ in the noise, which the learning rate multiplies in the third.

Sources: J. Ash, R. Adams 2020, "On warm-starting neural network training", arXiv:1910.08475;
S. Dohare et al. 2024, "Loss of plasticity in deep continual learning", Nature 632; M. Elsayed,
A. R. Mahmood 2024, "Addressing loss of plasticity and catastrophic forgetting in continual
learning", arXiv:2404.00781, where the third is a baseline.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.numerics import at_least_float32


def shrink_and_perturb(
    key: jax.Array, params: Any, *, shrink: float | jax.Array, noise: Any
) -> Any:
    """Returns the parameters multiplied by a factor, plus Gaussian noise. Call it at a new task.

    The state of the optimizer describes the old parameters: initialize it anew.

    Args:
      key: a random key.
      params: a tree of floating-point arrays.
      shrink: the factor, a number in [0, 1].
      noise: standard deviation of the noise, a number in [0, inf), or a tree of them like the
        parameters, such as the standard deviations of their initializers.

    Raises:
      TypeError: `key` is not a random key, or a leaf of `params` is not an array.
      ValueError: `shrink` or `noise` is out of its range; `noise` is not like the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> jd.streaming.shrink_and_perturb(jax.random.key(0), jnp.ones(2), shrink=0.4, noise=0.0)
      Array([0.4, 0.4], dtype=float32)
    """
    key = validation.random_key("key", key)
    validation.check_floating("params", params)
    if validation.is_concrete(shrink):
        validation.number_in("shrink", shrink, 0, 1)
    leaves, structure = jax.tree.flatten(params)
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(noise)):
        deviations = [noise] * len(leaves)
    else:
        try:
            deviations = structure.flatten_up_to(noise)
        except ValueError as error:
            raise ValueError(
                f"noise must be a number or a tree of numbers like params: {error}"
            ) from error
    for deviation in deviations:
        if validation.is_concrete(deviation):
            validation.half_open_interval("noise", deviation, 0, float("inf"))

    def changed(key: jax.Array, x: Any, deviation: Any) -> jax.Array:
        x = jnp.asarray(x)
        wide = at_least_float32(x.dtype)
        noise = jax.random.normal(key, x.shape, wide) * jnp.asarray(deviation, wide)
        return (jnp.asarray(shrink, wide) * x + noise).astype(x.dtype)

    keys = jax.random.split(key, max(len(leaves), 1))
    return jax.tree.unflatten(structure, list(map(changed, keys, leaves, deviations)))


def continual_shrink_and_perturb(
    tx: optax.GradientTransformation,
    key: jax.Array,
    *,
    decay: float | jax.Array,
    noise: float | jax.Array,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer with weight decay in the gradient and noise in every update.

    The noise does not depend on the learning rate of `tx`. With `optax.sgd` it is the method of
    Dohare et al., who use a decay of 1e-4 and noise between 1e-6 and 1e-4.

    Args:
      tx: a transformation that ends with the learning rate.
      key: a random key.
      decay: factor of the parameters that is added to the gradient, a number in [0, inf).
      noise: standard deviation of the noise that is added to each update, a number in [0, inf).

    Raises:
      TypeError: `tx` is not a transformation, or `key` is not a random key.
      ValueError: `decay` or `noise` is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.continual_shrink_and_perturb(
      ...     optax.sgd(0.5), jax.random.key(0), decay=0.1, noise=0.0)
      >>> updates, state = tx.update(jnp.array(1.0), tx.init(jnp.array(2.0)), jnp.array(2.0))
      >>> round(float(updates), 6)
      -0.6
    """
    inner = validation.transformation("tx", tx)
    key = validation.random_key("key", key)
    validation.check_non_negative("decay", decay)
    validation.check_non_negative("noise", noise)
    return optax.chain(
        optax.add_decayed_weights(decay), inner, optax.add_noise(jnp.square(noise), 0, key)
    )


def perturbed_descent(
    learning_rate: float | jax.Array,
    key: jax.Array,
    *,
    decay: float | jax.Array,
    noise: float | jax.Array,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with weight decay, and noise in the gradient.

    Args:
      learning_rate: a number in (0, inf). It multiplies the noise, too.
      key: a random key.
      decay: factor of the parameters that is added to the gradient, a number in [0, inf).
      noise: standard deviation of the noise in the gradient, a number in [0, inf).

    Raises:
      TypeError: `key` is not a random key.
      ValueError: a number is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> tx = jd.streaming.perturbed_descent(0.5, jax.random.key(0), decay=0.1, noise=0.0)
      >>> updates, state = tx.update(jnp.array(1.0), tx.init(jnp.array(2.0)), jnp.array(2.0))
      >>> round(float(updates), 6)
      -0.6
    """
    validation.positive_number("learning_rate", learning_rate)
    key = validation.random_key("key", key)
    validation.check_non_negative("decay", decay)
    validation.check_non_negative("noise", noise)
    return optax.chain(
        optax.add_noise(jnp.square(noise), 0, key),
        optax.add_decayed_weights(decay),
        optax.sgd(learning_rate),
    )
