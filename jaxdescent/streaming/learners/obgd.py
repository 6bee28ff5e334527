"""ObGD, overshooting-bounded gradient descent: a step that cannot overshoot the target.

    e <- gamma lambda e + grad v(w)                     v the prediction, a scalar
    M = kappa max(|delta|, 1) |e|_1 alpha               delta the error of the prediction
    w <- w + alpha / max(M, 1) delta e

The step changes the prediction of a linear model by at most 1 / kappa of the error if features are
at most 1 and |delta| <= 1, or by 1 / kappa if it is larger. With gamma lambda = 0 this is
supervised learning from one example at a time.

Source: M. Elsayed, G. Vasan, A. R. Mahmood 2024, arXiv:2410.14606 (StreamX). The paper combines it
with sparse initialization, LayerNorm and normalized inputs, which are not part of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.streaming.learners import containment


class ObgdState(NamedTuple):
    """State of `obgd`.

    Attributes:
      trace: a tree like the parameters, the trace e of gradients.
      skipped: i32[], number of rounds that were not finite.
    """

    trace: Any
    skipped: jax.Array


def obgd(
    learning_rate: ArrayLike = 1.0,
    *,
    kappa: ArrayLike = 2.0,
    discount: ArrayLike = 0.0,
    trace_decay: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent on one prediction at a time, whose step is bounded by its effect.

    `intentional` chooses the step by its effect directly, and supersedes it.

    Args:
      learning_rate: alpha, a number in (0, inf), the step size where the bound does not act.
      kappa: a number in (0, inf); a larger one bounds more. The paper has 2 for values and 3 for
        policies.
      discount: gamma, a number in [0, 1]: 0 for supervised learning.
      trace_decay: lambda, a number in [0, 1].

    Returns:
      A transformation. `update(prediction_grads, state, params, error=error)` takes the gradient
      of a scalar prediction, and its error: the target minus the prediction for the squared loss,
      or the negative derivative of the loss by the prediction.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range; in `update`, `error` is missing or is not a
        scalar.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> tx = jd.streaming.obgd()
      >>> w, x = jnp.zeros(2), jnp.array([1.0, 1.0])
      >>> updates, state = tx.update(x, tx.init(w), w, error=3.0 - w @ x)
      >>> [float(u) for u in updates]  # 3 x / (2 * 3 * 2)
      [0.25, 0.25]
    """
    alpha = validation.positive_number("learning_rate", learning_rate)
    kappa = validation.positive_number("kappa", kappa)
    check_traces(discount, trace_decay)

    def init(params: Any) -> ObgdState:
        return ObgdState(containment.zeros_like(params), containment.no_rounds())

    def step(grads: Any, state: Any, error: jax.Array) -> tuple[Any, Any]:
        trace = decayed(state.trace, grads, discount, trace_decay)
        sizes = [jnp.sum(jnp.abs(e)).astype(error.dtype) for e in jax.tree.leaves(trace)]
        length = sum(sizes, jnp.zeros((), error.dtype))
        rate = containment.number(alpha, error)
        bound = containment.number(kappa, error) * jnp.maximum(jnp.abs(error), 1) * length * rate
        factor = rate / jnp.maximum(bound, 1) * error
        moves = jax.tree.map(lambda e: factor.astype(e.dtype) * e, trace)
        return moves, state._replace(trace=trace)

    return containment.error_learner(init, step)


def decayed(trace: Any, grads: Any, discount: ArrayLike, trace_decay: ArrayLike) -> Any:
    """Returns the trace gamma lambda e + g."""

    def leaf(e: jax.Array, g: jax.Array) -> jax.Array:
        return decay_factor(discount, trace_decay, e) * e + g.astype(e.dtype)

    return jax.tree.map(leaf, trace, grads)


def decay_factor(discount: ArrayLike, trace_decay: ArrayLike, like: jax.Array) -> jax.Array:
    """Returns gamma lambda in the dtype of an array."""
    return containment.number(discount, like) * containment.number(trace_decay, like)


def check_traces(discount: Any, trace_decay: Any) -> None:
    """Raises unless both are in [0, 1]."""
    for name, value in (("discount", discount), ("trace_decay", trace_decay)):
        if validation.is_concrete(value):
            validation.number_in(name, value, 0, 1)
