"""The parts that gradient flow and central flow share: the protocol, moving averages, casts.

With the optimizer in the form of `optimizers` and one optimizer step as the unit of time, the
averages follow dm/dt = log(1 / b1) (g - m) and dnu/dt = log(1 / b2) (g^2 - nu). Over a time h
they relax exactly,

    m <- b1^h m + (1 - b1^h) g,    nu <- b2^h nu + (1 - b2^h) g^2.

The gradient of the first step counts from the middle of that step: the averages start at age
(1 - h) / 2 with the first gradient in them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import numerics
from jaxdescent.stability.flows.optimizers import FlowOptimizer, ema_weight
from jaxdescent.stability.sharpness import curvature

Loss = Callable[[Any, Any], jax.Array]


class Flow(NamedTuple):
    """A flow as two pure functions.

    Attributes:
      init: called as `init(params, batch)`; returns the state at time 0.
      step: called as `step(state, batch)`; returns the state one optimizer step later, and info.
    """

    init: Callable[[Any, Any], Any]
    step: Callable[[Any, Any], tuple[Any, Any]]


class Moments(NamedTuple):
    """Moving averages of flat gradients.

    Attributes:
      m, nu: `f[n]`, averages of the gradient and of its square.
      age: `f[]`, number of steps that the averages have seen.
    """

    m: jax.Array
    nu: jax.Array
    age: jax.Array


def first_moments(optimizer: FlowOptimizer, g: jax.Array, h: float) -> Moments:
    """Returns the averages at the start, before a substep of length h."""
    age = jnp.asarray((1 - h) / 2, g.dtype)
    return Moments(ema_weight(optimizer.b1, age) * g, ema_weight(optimizer.b2, age) * g**2, age)


def relax(
    optimizer: FlowOptimizer, moments: Moments, g: jax.Array, square: jax.Array, h: float
) -> Moments:
    """Advances the averages by a time h with a gradient of mean `g` and mean square `square`."""
    w1, w2 = ema_weight(optimizer.b1, h), ema_weight(optimizer.b2, h)
    return Moments(
        moments.m + w1 * (g - moments.m), moments.nu + w2 * (square - moments.nu), moments.age + h
    )


def keep_finite(new: Any, old: Any, losses: jax.Array) -> tuple[Any, jax.Array]:
    """Returns `new` and True if `new` and the losses are finite, otherwise `old` and False."""
    finite = numerics.all_finite((new, losses))
    return optax.tree.where(finite, new, old), finite


def flat_loss(loss_fn: Loss, flat: curvature.Layout) -> Callable[[jax.Array, Any], jax.Array]:
    """Returns the loss as a function of flat parameters, computed in their dtype."""

    def loss(w: jax.Array, batch: Any) -> jax.Array:
        return loss_fn(flat.tree(w, dtype=flat.dtype), batch).astype(flat.dtype)

    return loss


def cast(optimizer: FlowOptimizer, dtype: Any) -> FlowOptimizer:
    """Returns the optimizer with its numbers in this dtype."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), optimizer)


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless the optimizer is one of `jd.flows`."""
    if not isinstance(optimizer, FlowOptimizer):
        raise TypeError(
            "optimizer must be one of jd.flows, such as jd.flows.adam(1e-3), got "
            f"{type(optimizer).__name__}"
        )
