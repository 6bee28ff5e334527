"""What makes BBOB's functions irregular: oscillation, asymmetry, conditioning, a penalty.

With derivatives that are finite everywhere: at 0, where there is none, it is the identity's, and
numbers whose reciprocal overflows count as 0.

Source: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829.
"""

import jax
import jax.numpy as jnp

from jaxdescent.problems.coco.constants import powers


def rotated(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """The matrix times x, in full precision on every device."""
    return jnp.matmul(matrix, x, precision=jax.lax.Precision.HIGHEST)


def graded(base: float, x: jax.Array) -> jax.Array:
    """The diagonal from 1 to `base` times x."""
    return jnp.asarray(powers(base, x.size), x.dtype) * x


def fractions(x: jax.Array) -> jax.Array:
    """From 0 to 1 in equal steps, one for each coordinate."""
    return jnp.linspace(0, 1, x.size, dtype=x.dtype)


def oscillated(x: jax.Array) -> jax.Array:
    """T_osz: x times a factor in [0.9, 1.11] that swings with log |x|, ever faster near 0."""
    nonzero = _normal(jnp.abs(x))
    log = jnp.log(jnp.where(nonzero, jnp.abs(x), 1))
    right = jnp.sin(10 * log) + jnp.sin(7.9 * log)
    left = jnp.sin(5.5 * log) + jnp.sin(3.1 * log)
    return x * jnp.exp(0.049 * jnp.where(x > 0, right, left))


def asymmetric(beta: float, x: jax.Array) -> jax.Array:
    """T_asy: positive coordinates grow faster, later ones more so."""
    positive = _normal(x)
    base = jnp.where(positive, x, 1)
    root = jnp.sqrt(base)
    return jnp.where(positive, base * jnp.exp(beta * fractions(x) * root * jnp.log(base)), x)


def power(x: jax.Array, exponent: float) -> jax.Array:
    """A root: x to an exponent in (0, 1), for x at least 0, with derivative 1 at 0."""
    positive = _normal(x)
    return jnp.where(positive, jnp.where(positive, x, 1) ** exponent, x)


def outside(x: jax.Array) -> jax.Array:
    """f_pen: the squared distance from the box [-5, 5]^n."""
    return jnp.sum(jnp.maximum(jnp.abs(x) - 5, 0) ** 2)


def alone(product: jax.Array) -> jax.Array:
    """A product that is rounded before it is added: the choice keeps it out of a fused sum."""
    return jnp.where(product == product, product, jnp.nan)


def _normal(x: jax.Array) -> jax.Array:
    """Whether x is positive and has a finite reciprocal."""
    return x > 2 * jnp.finfo(x.dtype).tiny
