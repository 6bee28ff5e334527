"""Mixed precision: what a model computes in, beside what it returns.

Every model takes `dtype`: its products and activations are in it (`jnp.bfloat16` halves
their memory and is what accelerators are fast at), while its parameters stay in float32,
as do the statistics of its norms, its softmaxes, and what it returns, hence the loss.
"""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Widens bfloat16 and float16 to float32; float64 stays.

    Example:
      >>> at_least_float32(jnp.ones(3, jnp.bfloat16)).dtype
      dtype('float32')
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
