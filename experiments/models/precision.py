"""Mixed precision: the dtype of the computation and the dtype of the result.

Every model takes `dtype`, the dtype of its matrix products and activations. `jnp.bfloat16` halves
their memory and is fast on accelerators. Parameters, normalization statistics, softmaxes and
outputs stay in float32, and so does the loss.
"""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Converts bfloat16 and float16 to float32; keeps float64.

    Example:
      >>> at_least_float32(jnp.ones(3, jnp.bfloat16)).dtype
      dtype('float32')
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
