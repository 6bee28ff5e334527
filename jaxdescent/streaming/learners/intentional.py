"""Intentional updates: a step that is chosen by how far it moves the prediction.

    v <- mean of grad^2          s = sqrt(v) + 1e-8            b2, bias-corrected
    e <- gamma lambda e + grad
    sigma <- mean of sum(grad^2 / s)                           1 - gamma lambda, bias-corrected
    step = eta / sqrt(sigma sum(e^2 / s))
    w <- w + step clip(delta) e / s                            |delta| <= 20 RMS(delta)

With gamma lambda = 0 the update moves a linear prediction by exactly eta times its clipped error.
Where all |grad| are equal and constant this is normalized least mean squares (NLMS),
w <- w + eta delta x / |x|^2.

Source: arXiv:2604.19033 (2026) and its implementation, in which sigma is a mean, not a sum.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners import containment
from jaxdescent.streaming.learners.obgd import check_traces, decay_factor, decayed

EPSILON = 1e-8


class IntentionalState(NamedTuple):
    """State of `intentional`.

    Attributes:
      trace: a tree like the parameters, the trace e of gradients.
      squares: a tree like the parameters, the mean of squared gradients, not bias-corrected.
      sigma: f[], the mean of sum(grad^2 / s), not bias-corrected.
      squared_error: f[], the mean of squared errors, not bias-corrected.
      count: i32[], number of rounds until now.
      skipped: i32[], number of rounds that were not finite; they are not in `count`.
    """

    trace: Any
    squares: Any
    sigma: jax.Array
    squared_error: jax.Array
    count: jax.Array
    skipped: jax.Array


def intentional(
    learning_rate: ArrayLike = 0.5,
    *,
    discount: ArrayLike = 0.0,
    trace_decay: ArrayLike = 0.0,
    b2: ArrayLike = 0.999,
    clip: ArrayLike = 20.0,
    clip_decay: ArrayLike = 0.9998,
) -> optax.GradientTransformationExtraArgs:
    """Moves each prediction by a fraction of its error, at any scale of features and targets.

    Args:
      learning_rate: eta, the fraction of the error that a step removes, a number in (0, inf). The
        paper has 0.5 for values and 0.05 for policies.
      discount: gamma, a number in [0, 1]: 0 for supervised learning.
      trace_decay: lambda, a number in [0, 1]; gamma lambda must be below 1.
      b2: decay of the mean of squared gradients, a number in [0, 1).
      clip: largest error, in units of its root mean square, a number in (0, inf].
      clip_decay: decay of the mean of squared errors, a number in [0, 1).

    Returns:
      A transformation. `update(prediction_grads, state, params, error=error)` takes the gradient
      of a scalar prediction, and its error: the target minus the prediction for the squared loss,
      or the negative derivative of the loss by the prediction.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range; in `update`, `error` is missing or is not a
        scalar.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> tx = jd.streaming.intentional(0.5)
      >>> w, x = jnp.zeros(2), jnp.array([100.0, -0.01])
      >>> updates, _ = tx.update(x, tx.init(w), w, error=3.0 - w @ x)
      >>> round(float(updates @ x), 3)  # half of the error
      1.5
    """
    eta = validation.positive_number("learning_rate", learning_rate)
    check_traces(discount, trace_decay)
    if validation.is_concrete(discount) and validation.is_concrete(trace_decay):
        validation.half_open_interval("discount * trace_decay", discount * trace_decay, 0, 1)
    validation.half_open_interval("b2", b2, 0, 1)
    validation.half_open_interval("clip_decay", clip_decay, 0, 1)
    clip = validation.positive_number("clip", clip, infinite=True)

    def init(params: Any) -> IntentionalState:
        dtype = numerics.widest_float(params)
        return IntentionalState(
            trace=containment.zeros_like(params),
            squares=containment.zeros_like(params),
            sigma=jnp.zeros((), dtype),
            squared_error=jnp.zeros((), dtype),
            count=containment.no_rounds(),
            skipped=containment.no_rounds(),
        )

    def step(grads: Any, state: Any, error: jax.Array) -> tuple[Any, Any]:
        count = containment.next_round(state.count)
        grads = containment.widened(grads)
        trace = decayed(state.trace, grads, discount, trace_decay)
        squares = jax.tree.map(lambda v, g: _mean(v, g**2, b2), state.squares, grads)
        scales = jax.tree.map(lambda v: jnp.sqrt(_corrected(v, b2, count)) + EPSILON, squares)

        decay = decay_factor(discount, trace_decay, error)
        effect = _sum_of_quotients(grads, scales, error)
        sigma = _mean(state.sigma, effect, decay)
        of_trace = _sum_of_quotients(trace, scales, error)
        size = jnp.sqrt(_corrected(sigma, decay, count)) * jnp.sqrt(of_trace)

        squared_error = _mean(state.squared_error, error**2, clip_decay)
        rms = jnp.sqrt(_corrected(squared_error, clip_decay, count))
        limit = containment.number(clip, error) * rms
        limit = jnp.where(jnp.isnan(limit), jnp.inf, limit)  # no clipping of an error of 0
        factor = containment.number(eta, error) / jnp.maximum(size, EPSILON)
        factor = factor * jnp.clip(error, -limit, limit)
        moves = jax.tree.map(lambda e, s: factor.astype(e.dtype) * (e / s), trace, scales)
        return moves, IntentionalState(trace, squares, sigma, squared_error, count, state.skipped)

    return containment.error_learner(init, step)


def _mean(mean: jax.Array, new: jax.Array, decay: Any) -> jax.Array:
    return mean + (1 - containment.number(decay, mean)) * (new - mean)


def _corrected(mean: jax.Array, decay: Any, count: jax.Array) -> jax.Array:
    """Returns a mean without the share of its initial value, 0."""
    decay = containment.number(decay, mean)
    exponent = count.astype(mean.dtype)
    # 1 - decay^count in float32, where decay is close to 1.
    share = -jnp.expm1(exponent * jnp.log(jnp.where(decay > 0, decay, 1)))
    return mean / jnp.where(decay > 0, share, 1)


def _sum_of_quotients(tree: Any, scales: Any, like: jax.Array) -> jax.Array:
    quotients = jax.tree.map(lambda x, s: jnp.sum(x * (x / s)).astype(like.dtype), tree, scales)
    return sum(jax.tree.leaves(quotients), jnp.zeros((), like.dtype))
