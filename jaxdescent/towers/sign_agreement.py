"""A normalized step for hyperparameters: fast while the hypergradients agree, slow later.

With G the hypergradient of a coordinate, m and v Adam's moments of it,

    n  = m / sqrt(v), within [-1, 1]       about 1 while G keeps its sign, small in noise
    a  = mean of sign(-G), discounted      agreement that the coordinate should grow
    dx = -n (r / sqrt(1 + t / T) + f max(0, a - c) / (1 - c))

Normalization makes the step independent of the loss's scale and of the model's size, which
a raw hypergradient is proportional to. A rate that is too low is told to grow by batch after
batch, and does; one that is nearly right hears the batches disagree, and settles with steps
that fall like 1 / sqrt(t).

How fast may it grow? The sum of all G is by how much the moves have changed the loss, to
first order. As long as that is under a hundredth of the loss, nothing can have gone wrong
and nothing has been achieved: f is large. From then on it is small, for a rate that runs
ahead of what the batches had to say does harm that stays.

Source: the normalization is Adam's (D. P. Kingma, J. Ba, 2015, arXiv:1412.6980); faster
steps under agreement of signs are Rprop's (M. Riedmiller, H. Braun, 1993).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

HYPER_RATE = 0.02  # r, in units of the coordinate
HORIZON = 50.0  # T, in steps
AGREED = 0.7  # c
BOLD, CAREFUL = 0.35, 0.1  # f
NEGLIGIBLE = 0.01  # of the loss
DISCOUNT = 0.8  # of signs
B1, B2 = 0.9, 0.999


class SignAgreementState(NamedTuple):
    """What `scale_by_sign_agreement` carries: trees like the hyperparameters, and a count.

    Attributes:
      mean: discounted sums of the hypergradients, before the correction for the short start.
      root_mean_square: the same of their squares, then the root: squares would underflow.
      agreement: the same of sign(-G).
      total: the sums of all hypergradients until now: by how much, to first order, the
        moves have changed the loss.
      count: i32[], hypergradients until now.
    """

    mean: Any
    root_mean_square: Any
    agreement: Any
    total: Any
    count: jax.Array


def scale_by_sign_agreement() -> optax.GradientTransformationExtraArgs:
    """Normalized steps that are longer while hypergradients agree that more is better.

    Its `update` takes the loss as `value=`; without it growth is careful from the start.

    Example:
      >>> tx = scale_by_sign_agreement()
      >>> x, state = jnp.zeros(()), tx.init(jnp.zeros(()))
      >>> for _ in range(30):
      ...     dx, state = tx.update(jnp.array(-1e-30), state, value=1.0)
      ...     x += dx
      >>> float(x) > 5
      True
    """

    def init(params: Any) -> SignAgreementState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return SignAgreementState(zeros(), zeros(), zeros(), zeros(), jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = jnp.nan, **extra: Any
    ) -> tuple[Any, SignAgreementState]:
        del params, extra
        grads: Any = updates
        count = jnp.asarray(optax.safe_increment(state.count))
        state = SignAgreementState(
            mean=_discounted(B1, state.mean, grads),
            root_mean_square=jax.tree.map(_root_mean_square, state.root_mean_square, grads),
            agreement=_discounted(
                DISCOUNT, state.agreement, jax.tree.map(lambda g: -jnp.sign(g), grads)
            ),
            total=jax.tree.map(jnp.add, state.total, grads),
            count=count,
        )
        slow = HYPER_RATE * jax.lax.rsqrt(1 + count / HORIZON)
        weight = 1 - DISCOUNT**count

        def step(m: jax.Array, s: jax.Array, a: jax.Array, change: jax.Array) -> jax.Array:
            n = (m / (1 - B1**count)) / (s / jnp.sqrt(1 - B2**count))
            n = jnp.clip(jnp.where(jnp.isfinite(n), n, 0), -1, 1)  # 0 / 0 before the first signal
            agreed = jnp.maximum(a / weight - AGREED, 0) / (1 - AGREED) * weight
            bold = jnp.abs(change) < NEGLIGIBLE * jnp.abs(value)
            return -n * (slow + jnp.where(bold, BOLD, CAREFUL) * agreed)

        moments = state.mean, state.root_mean_square, state.agreement, state.total
        return jax.tree.map(step, *moments), state

    return optax.GradientTransformationExtraArgs(init, update)


def _discounted(discount: float, sums: Any, new: Any) -> Any:
    return jax.tree.map(lambda m, g: discount * m + (1 - discount) * g, sums, new)


def _root_mean_square(s: jax.Array, g: jax.Array) -> jax.Array:
    return jnp.hypot(B2**0.5 * s, (1 - B2) ** 0.5 * g)
