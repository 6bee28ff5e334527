"""Optimizers to which the flows apply, with the arguments and the meaning of optax.

Each has the form of one update rule, with two moving averages of the gradient g:

    m <- b1 m + (1 - b1) g        nu <- b2 nu + (1 - b2) g^2
    w <- w - learning_rate m / P

P = 1 for gradient descent and momentum, which have no second moment. The learning rate
here multiplies an average, so for momentum it is optax's divided by 1 - b1. P = sqrt(nu + eps)
for RMSProp. P = (1 - b1^t) (sqrt(nu / (1 - b2^t)) + eps) for Adam, which divides its moments by
1 - b^t.

On a quadratic with constant P, a coordinate of curvature s obeys
z^2 - (1 + b1 - (1 - b1) learning_rate s) z + b1 = 0, which leaves the unit circle at z = -1.
The optimizer is therefore stable while the eigenvalues of P^-1/2 H P^-1/2 are below

    threshold = 2 (1 + b1) / (learning_rate (1 - b1)).

Source: J. Cohen, B. Ghorbani et al., "Adaptive Gradient Methods at the Edge of Stability",
2022, arXiv:2207.14484.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation

Number = float | jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["learning_rate", "b1", "b2", "eps"],
    meta_fields=["adaptive", "debiased"],
)
@dataclasses.dataclass(frozen=True)
class FlowOptimizer:
    """An optimizer with a known flow, made by `jd.flows.sgd`, `rmsprop` or `adam`.

    The numbers may be arrays: changing them does not recompile, and `jax.vmap` maps over them.

    Attributes:
      learning_rate: multiplies the averaged gradient.
      b1, b2: decay rates of the two averages.
      eps: added to the square root if debiased, otherwise under it.
      adaptive: True if there is a second moment.
      debiased: True if the averages are divided by 1 - b^t.
    """

    learning_rate: Number
    b1: Number = 0.0
    b2: Number = 0.0
    eps: Number = 0.0
    adaptive: bool = False
    debiased: bool = False

    @property
    def threshold(self) -> jax.Array:
        """The largest stable eigenvalue of P^-1/2 H P^-1/2.

        Example:
          >>> float(adam(learning_rate=0.5, b1=0.0).threshold)
          4.0
        """
        b1 = jnp.asarray(self.b1)
        return 2 * (1 + b1) / (self.learning_rate * (1 - b1))

    def preconditioner(self, nu: jax.Array, age: Number) -> jax.Array:
        """Returns P, of the shape of the second moment `nu`, after `age` > 0 steps."""
        if not self.adaptive:
            return jnp.ones_like(nu)
        if not self.debiased:
            return jnp.sqrt(nu + self.eps)
        return ema_weight(self.b1, age) * (jnp.sqrt(nu / ema_weight(self.b2, age)) + self.eps)


def ema_weight(b: Number, time: Number) -> jax.Array:
    """Returns 1 - b^time, the weight of new values in a moving average, without cancellation.

    Example:
      >>> float(ema_weight(0.5, 2.0)), float(ema_weight(0.0, 0.25))
      (0.75, 1.0)
    """
    b = jnp.asarray(b)
    weight = -jnp.expm1(time * jnp.log(jnp.where(b > 0, b, 1)))
    return jnp.where(b > 0, weight, jnp.asarray(time > 0, weight.dtype))


def sgd(
    learning_rate: Number, momentum: Number | None = None, nesterov: bool = False
) -> FlowOptimizer:
    """Gradient descent, with or without heavy-ball momentum, as `optax.sgd`.

    Args:
      learning_rate: in (0, inf).
      momentum: in [0, 1); None is 0.
      nesterov: must be False. Nesterov momentum does not have the form of these optimizers: its
        update uses the last gradient beside the average.

    Raises:
      ValueError: a known number is out of its range, or nesterov is True.

    Example:
      >>> print(f"{float(sgd(0.1).threshold):.3f} {float(sgd(0.1, 0.9).threshold):.3f}")
      20.000 38.000
    """
    if nesterov:
        raise ValueError(f"nesterov must be False, got {nesterov!r}; its flow is not implemented")
    momentum = 0.0 if momentum is None else momentum
    validation.positive("learning_rate", learning_rate)
    validation.half_open_interval("momentum", momentum, 0.0, 1.0)
    return FlowOptimizer(learning_rate / (1 - momentum), momentum)


def rmsprop(learning_rate: Number, decay: Number = 0.9, eps: Number = 1e-8) -> FlowOptimizer:
    """RMSProp, as `optax.rmsprop(learning_rate, decay, eps)`.

    Args:
      learning_rate: in (0, inf).
      decay: of the second moment, in [0, 1).
      eps: added under the square root, in [0, inf).

    Raises:
      ValueError: a known number is out of its range.

    Example:
      >>> print(f"{float(rmsprop(0.1).threshold):.3f}")
      20.000
    """
    validation.positive("learning_rate", learning_rate)
    validation.half_open_interval("decay", decay, 0.0, 1.0)
    validation.half_open_interval("eps", eps, 0.0, np.inf)
    return FlowOptimizer(learning_rate, 0.0, decay, eps, adaptive=True)


def adam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
) -> FlowOptimizer:
    """Adam, as `optax.adam(learning_rate, b1, b2, eps)`.

    Args:
      learning_rate: in (0, inf).
      b1: of the first moment, in [0, 1).
      b2: of the second moment, in [0, 1).
      eps: added to the square root, in [0, inf).

    Raises:
      ValueError: a known number is out of its range.

    Example:
      >>> print(f"{float(adam(0.1).threshold):.3f}")
      380.000
    """
    validation.positive("learning_rate", learning_rate)
    validation.half_open_interval("b1", b1, 0.0, 1.0)
    validation.half_open_interval("b2", b2, 0.0, 1.0)
    validation.half_open_interval("eps", eps, 0.0, np.inf)
    return FlowOptimizer(learning_rate, b1, b2, eps, adaptive=True, debiased=True)
