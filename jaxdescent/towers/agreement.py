"""A normalised step for hyperparameters: fast while the hypergradients agree, slow later.

With G the hypergradient of a coordinate, and Adam's moments of it,

    n  = m / sqrt(v), within [-1, 1]       about 1 while G keeps its sign, small in noise
    a  = mean of sign(-G), discounted      agreement that the coordinate should grow
    dx = -n (r / sqrt(1 + t / T) + f max(0, a - c) / (1 - c))

Normalisation makes the step independent of the loss's scale and of the model's size, which
a raw hypergradient is proportional to. A rate that starts orders of magnitude too low is
told to grow by every batch, and does so by a factor exp(f) a step; one that is nearly right
hears the batches disagree, and settles with steps that fall like 1 / sqrt(t).

Source: the normalisation is Adam's (D. P. Kingma, J. Ba, 2015, arXiv:1412.6980); faster
steps under agreement of signs are Rprop's (M. Riedmiller, H. Braun, 1993).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

HYPER_RATE = 0.05  # r, in units of the coordinate
HORIZON = 50.0  # T
FAST = 0.25  # f
AGREED = 0.7  # c
DISCOUNT = 0.8  # of signs


class AgreementState(NamedTuple):
    """What `scale_by_agreement` carries.

    Attributes:
      adam: the moments of the hypergradients.
      agreement: discounted sums of sign(-G), before their correction for the short start.
      total: the sums of all hypergradients until now: how much faster or slower descent
        the moves have made, to first order.
      count: i32[], hypergradients until now.
    """

    adam: optax.ScaleByAdamState
    agreement: Any
    total: Any
    count: jax.Array


def scale_by_agreement() -> optax.GradientTransformation:
    """Normalised steps that are longer while hypergradients agree that more is better.

    Example:
      >>> tx = scale_by_agreement()
      >>> x, state = jnp.zeros(()), tx.init(jnp.zeros(()))
      >>> for _ in range(30):
      ...     dx, state = tx.update(jnp.array(-1e-6), state)
      ...     x += dx
      >>> float(x) > 5
      True
    """
    adam = optax.scale_by_adam(eps=0.0, eps_root=0.0)

    def init(hyperparams: Any) -> AgreementState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, hyperparams)
        return AgreementState(adam.init(hyperparams), zeros(), zeros(), jnp.zeros((), jnp.int32))

    def update(grads: Any, state: AgreementState, params: Any = None) -> Any:
        del params
        normalised, moments = adam.update(grads, state.adam)
        count = optax.safe_increment(state.count)
        weight = 1 - DISCOUNT**count
        agreement = jax.tree.map(
            lambda a, g: DISCOUNT * a - (1 - DISCOUNT) * jnp.sign(g), state.agreement, grads
        )
        rate = HYPER_RATE * jax.lax.rsqrt(1 + count / HORIZON)

        def step(n: jax.Array, a: jax.Array) -> jax.Array:
            certain = jnp.clip((a / weight - AGREED) / (1 - AGREED), 0, 1) * weight
            n = jnp.where(jnp.isfinite(n), n, 0)  # 0 / 0 before the first signal
            return -jnp.clip(n, -1, 1) * (rate + FAST * certain)

        total = jax.tree.map(jnp.add, state.total, grads)
        return (
            jax.tree.map(step, normalised, agreement),
            AgreementState(moments, agreement, total, count),
        )

    return optax.GradientTransformation(init, update)
