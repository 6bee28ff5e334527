"""Transformations that make BBOB functions irregular: oscillation, asymmetry, conditioning.

Their derivatives are finite everywhere. At 0, where a transformation is not differentiable, the
derivative is the identity's; numbers whose reciprocal overflows are treated as 0.

Source: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829.
"""

import jax
import jax.numpy as jnp

from jaxdescent.problems.coco.constants import powers


def rotated(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """Computes the matrix times x, in full precision on every device."""
    return jnp.matmul(matrix, x, precision=jax.lax.Precision.HIGHEST)


def conditioned(base: float, x: jax.Array) -> jax.Array:
    """Multiplies the coordinates of x by powers of `base`, from 1 to `base`."""
    return jnp.asarray(powers(base, x.size), x.dtype) * x


def fractions(x: jax.Array) -> jax.Array:
    """Returns equally spaced numbers from 0 to 1, one for each coordinate."""
    return jnp.linspace(0, 1, x.size, dtype=x.dtype)


def oscillated(x: jax.Array) -> jax.Array:
    """T_osz: multiplies x by a factor in [0.9, 1.11] that oscillates with log |x|."""
    nonzero = _normal(jnp.abs(x))
    log = jnp.log(jnp.where(nonzero, jnp.abs(x), 1))
    right = jnp.sin(10 * log) + jnp.sin(7.9 * log)
    left = jnp.sin(5.5 * log) + jnp.sin(3.1 * log)
    return x * jnp.exp(0.049 * jnp.where(x > 0, right, left))


def asymmetric(beta: float, x: jax.Array) -> jax.Array:
    """T_asy: raises positive coordinates to powers above 1 that increase with their index."""
    positive = _normal(x)
    base = jnp.where(positive, x, 1)
    root = jnp.sqrt(base)
    return jnp.where(positive, base * jnp.exp(beta * fractions(x) * root * jnp.log(base)), x)


def power(x: jax.Array, exponent: float) -> jax.Array:
    """Returns x to an exponent in (0, 1), for x at least 0, with derivative 1 at 0."""
    positive = _normal(x)
    return jnp.where(positive, jnp.where(positive, x, 1) ** exponent, x)


def outside(x: jax.Array) -> jax.Array:
    """f_pen: returns the squared distance from the box [-5, 5]^n."""
    return jnp.sum(jnp.maximum(jnp.abs(x) - 5, 0) ** 2)


def unfused(product: jax.Array) -> jax.Array:
    """Rounds a product before it is added: the select prevents a fused multiply-add."""
    return jnp.where(product == product, product, jnp.nan)


def _normal(x: jax.Array) -> jax.Array:
    """True where x is positive and has a finite reciprocal."""
    return x > 2 * jnp.finfo(x.dtype).tiny
