"""Regularization toward the initial parameters.

    g + strength * (x - x_0)

is the gradient of the loss plus strength / 2 * |x - x_0|^2. In a chain before Adam, Adam rescales
it, as in the paper.

Source: S. Kumar, H. Marklund, B. Van Roy 2023, "Maintaining plasticity in continual learning via
regenerative regularization", arXiv:2308.11958.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers, validation


class L2InitState(NamedTuple):
    """State of `l2_init`.

    Attributes:
      initial: the parameters that `init` was given.
    """

    initial: Any


def l2_init(strength: float | jax.Array) -> optax.GradientTransformationExtraArgs:
    """Adds the gradient of the squared distance to the initial parameters.

    Put it first in a chain. To exclude parameters, such as the scales of a normalization, wrap it
    in `optax.masked`.

    Args:
      strength: factor of the distance, a number in [0, inf). The paper chooses it among 1e-2,
        1e-3, 1e-4 and 1e-5.

    Returns:
      A transformation, whose update needs the parameters. Its state holds one copy of them.

    Raises:
      ValueError: `strength` is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = optax.chain(jd.streaming.l2_init(0.5), optax.sgd(1.0))
      >>> state = tx.init(jnp.array(1.0))
      >>> updates, state = tx.update(jnp.array(0.0), state, jnp.array(3.0))
      >>> float(updates)
      -1.0
    """
    validation.check_non_negative("strength", strength)

    def init(params: Any) -> L2InitState:
        validation.check_floating("params", params)
        return L2InitState(jax.tree.map(_copy, params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        if params is None:
            raise ValueError("update(grads, state, params) needs params, whose distance is taken")
        params = containers.params_like(params, updates)

        def pull(g: jax.Array, x: jax.Array, initial: jax.Array) -> jax.Array:
            return g + (strength * (x - initial)).astype(g.dtype)

        return jax.tree.map(pull, updates, params, state.initial), state

    return optax.GradientTransformationExtraArgs(init, update)


def _copy(x: Any) -> jax.Array:
    """Copies an array, since the training loop may donate it; zeros for a shape."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros(x.shape, x.dtype)
    return jnp.array(x)
