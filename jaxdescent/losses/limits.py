"""Arithmetic with infinite scores, where the result of plain arithmetic is NaN.

A logit of -inf rules a class out. If the label agrees, the loss is 0, and its gradient is 0; if it
does not, the loss is infinite. Plain arithmetic computes 0 * inf or inf - inf on the way:

    scale(w, x)        w x, and 0 if w = 0 and x is infinite
    subtract(a, b)     a - b, and 0 if both are the same infinity
    square(x)          x^2, with derivative 0 if x is infinite

NaN stays NaN.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def scale(weights: ArrayLike, values: jax.Array) -> jax.Array:
    """Computes the product; a weight of 0 excludes an infinite value, and its gradient."""
    excluded = (jnp.asarray(weights) == 0) & jnp.isinf(values)
    product = weights * jnp.where(excluded, 0, values)
    return jnp.where(excluded, 0, product)


def subtract(a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes the difference; equal infinities differ by 0, with gradient 0."""
    equal = jnp.isinf(a) & (a == b)
    return jnp.where(equal, 0, a) - jnp.where(equal, 0, b)


def square(values: jax.Array) -> jax.Array:
    """Computes the square; the derivative is 0 where it is infinite, so that 0 times it is 0."""
    infinite = jnp.isinf(values)
    return jnp.where(infinite, jnp.inf, jnp.where(infinite, 0, values) ** 2)
