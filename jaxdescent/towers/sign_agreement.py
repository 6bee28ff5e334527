"""Normalized steps for hyperparameters: large while hypergradients agree in sign, small later.

With G the hypergradient of a coordinate, m and v Adam's moments of G,

    n  = m / sqrt(v), clipped to [-1, 1]   about 1 while G keeps its sign, small in noise
    a  = discounted mean of sign(-G)       agreement that the coordinate should grow
    dx = -n (r / sqrt(1 + t / T) + f max(0, a - c) / (1 - c))

A raw hypergradient is proportional to the scale of the loss and to the size of the model;
normalization makes the step independent of both. If a learning rate is much too low, the
hypergradients of successive batches have the same sign, and the learning rate grows fast. If it is
nearly right, their signs vary, and it settles with steps that decrease like 1 / sqrt(t).

The growth factor f depends on the sum of all G: to first order, the change of the loss that the
updates have caused. While this is below a hundredth of the loss, growth is harmless and f is large.
Later f is small, because a learning rate that grows before the hypergradients can indicate an
overshoot does lasting harm.

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
BOLD, CAREFUL = 0.35, 0.1  # f before and after the updates have changed the loss noticeably
NEGLIGIBLE = 0.01  # change of the loss, relative to the loss
DISCOUNT = 0.8  # of the mean of signs
B1, B2 = 0.9, 0.999


class SignAgreementState(NamedTuple):
    """State of `scale_by_sign_agreement`: trees like the hyperparameters, and a count.

    Attributes:
      mean: discounted means of the hypergradients, without bias correction.
      root_mean_square: square roots of the discounted means of their squares, without bias
        correction; the squares themselves could underflow.
      agreement: discounted means of sign(-G), without bias correction.
      total: sums of all hypergradients, to first order the change of the loss.
      count: i32[], number of hypergradients.
    """

    mean: Any
    root_mean_square: Any
    agreement: Any
    total: Any
    count: jax.Array


def scale_by_sign_agreement() -> optax.GradientTransformationExtraArgs:
    """Scales hypergradients to normalized steps, which are longer while their signs agree.

    It is the hyper-optimizer of `jd.self_tuning`.

    Returns:
      A transformation. Its `update(hypergradients, state, *, value)` takes the loss as `value`;
      without it, the growth factor f is small from the start.

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
        def zeros() -> Any:
            return jax.tree.map(jnp.zeros_like, params)

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
            n = jnp.clip(
                jnp.where(jnp.isfinite(n), n, 0), -1, 1
            )  # 0 / 0 before the first nonzero hypergradient
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
