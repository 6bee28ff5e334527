"""A check that a step of an optimizer kept its state finite."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent.numerics import all_true, is_inexact


def stayed_finite(before: Any, after: Any) -> jax.Array:
    """Returns bool[], True if no finite number became infinite or NaN.

    Some states hold infinities by design, which do not count.
    """
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all_true(
        [jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)) for old, new in pairs if is_inexact(old)]
    )
