"""The optimizers whose flows are known, with optax's arguments and meaning.

All four are one rule, with the gradient's two moving averages

    m <- b1 m + (1 - b1) g        nu <- b2 nu + (1 - b2) g^2
    w <- w - learning_rate m / P

where P = 1 without second moment (descent, and momentum, whose rate is then that of the
average: optax's over 1 - b1), P = sqrt(nu + eps) for RMSProp and, since Adam divides its
moments by 1 - b^t, P = (1 - b1^t) (sqrt(nu / (1 - b2^t)) + eps) for Adam.

Near a minimum of a quadratic with P held, a coordinate of curvature s obeys
z^2 - (1 + b1 - (1 - b1) learning_rate s) z + b1 = 0, and leaves the unit circle at z = -1:
the optimizer is stable while the eigenvalues of P^-1/2 H P^-1/2 are below

    threshold = 2 (1 + b1) / (learning_rate (1 - b1)).

Source: J. Cohen, B. Ghorbani et al., "Adaptive Gradient Methods at the Edge of Stability",
2022, arXiv:2207.14484.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from jaxdescent import validation

Number = float | jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["learning_rate", "b1", "b2", "eps"],
    meta_fields=["adaptive", "debiased"],
)
@dataclasses.dataclass(frozen=True)
class FlowingOptimizer:
    """An optimizer in the form of this module; make one by the functions below.

    The numbers may be arrays: they move without a compilation, and `jax.vmap` maps over them.

    Attributes:
      learning_rate: of the averaged gradient.
      b1, b2: of the two averages.
      eps: beside the root if debiased, otherwise under it.
      adaptive: whether there is a second moment.
      debiased: whether the averages are divided by 1 - b^t.
    """

    learning_rate: Number
    b1: Number = 0.0
    b2: Number = 0.0
    eps: Number = 0.0
    adaptive: bool = False
    debiased: bool = False

    @property
    def threshold(self) -> jax.Array:
        """The greatest stable eigenvalue of P^-1/2 H P^-1/2.

        Example:
          >>> float(adam(learning_rate=0.5, b1=0.0).threshold)
          4.0
        """
        b1 = jnp.asarray(self.b1)
        return 2 * (1 + b1) / (self.learning_rate * (1 - b1))

    def preconditioner(self, nu: jax.Array, age: Number) -> jax.Array:
        """P, of the shape of the second moment `nu`, after `age` > 0 steps."""
        if not self.adaptive:
            return jnp.ones_like(nu)
        if not self.debiased:
            return jnp.sqrt(nu + self.eps)
        return weight(self.b1, age) * (jnp.sqrt(nu / weight(self.b2, age)) + self.eps)


def weight(b: Number, time: Number) -> jax.Array:
    """1 - b^time: what an average takes in over a time, without cancellation.

    Example:
      >>> float(weight(0.5, 2.0)), float(weight(0.0, 0.25))
      (0.75, 1.0)
    """
    b = jnp.asarray(b)
    forgets = -jnp.expm1(time * jnp.log(jnp.where(b > 0, b, 1)))
    return jnp.where(b > 0, forgets, jnp.asarray(time > 0, forgets.dtype))


def sgd(learning_rate: Number, momentum: Number = 0.0) -> FlowingOptimizer:
    """Gradient descent, or Polyak's heavy ball: `optax.sgd(learning_rate, momentum)`.

    Args:
      learning_rate: in (0, inf).
      momentum: in [0, 1).

    Raises:
      ValueError: a number that is known is out of its range.

    Example:
      >>> print(f"{float(sgd(0.1).threshold):.3f} {float(sgd(0.1, 0.9).threshold):.3f}")
      20.000 38.000
    """
    _check(learning_rate, momentum=momentum)
    return FlowingOptimizer(learning_rate / (1 - momentum), momentum)


def rmsprop(learning_rate: Number, decay: Number = 0.9, eps: Number = 1e-8) -> FlowingOptimizer:
    """RMSProp, as `optax.rmsprop(learning_rate, decay, eps)`.

    Args:
      learning_rate: in (0, inf).
      decay: of the second moment, in [0, 1).
      eps: under the root, in [0, inf).

    Raises:
      ValueError: a number that is known is out of its range.

    Example:
      >>> print(f"{float(rmsprop(0.1).threshold):.3f}")
      20.000
    """
    _check(learning_rate, decay=decay)
    _check_eps(eps)
    return FlowingOptimizer(learning_rate, 0.0, decay, eps, adaptive=True)


def adam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
) -> FlowingOptimizer:
    """Adam, as `optax.adam(learning_rate, b1, b2, eps)`.

    Args:
      learning_rate: in (0, inf).
      b1: of the first moment, in [0, 1).
      b2: of the second moment, in [0, 1).
      eps: beside the root, in [0, inf).

    Raises:
      ValueError: a number that is known is out of its range.

    Example:
      >>> print(f"{float(adam(0.1).threshold):.3f}")
      380.000
    """
    _check(learning_rate, b1=b1, b2=b2)
    _check_eps(eps)
    return FlowingOptimizer(learning_rate, b1, b2, eps, adaptive=True, debiased=True)


def _check(learning_rate: Number, **averages: Number) -> None:
    if not isinstance(learning_rate, jax.core.Tracer):
        validation.open_interval("learning_rate", learning_rate, 0, float("inf"))
    for name, value in averages.items():
        if not isinstance(value, jax.core.Tracer):
            _half_open(name, value, 1.0)


def _check_eps(eps: Number) -> None:
    if not isinstance(eps, jax.core.Tracer):
        _half_open("eps", eps, float("inf"))


def _half_open(name: str, value: Number, high: float) -> None:
    array = validation.finite_array(name, value)
    if not ((array >= 0) & (array < high)).all():
        raise ValueError(f"{name} must be in [0, {high:g}), got {value!r}")
