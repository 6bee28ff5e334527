"""Losses for regression, element by element.

With prediction p, target t and e = t - p:

    absolute                |e|
    quantile                max(q e, (q - 1) e)             minimized by the q-quantile of t
    absolute percentage     100 |e| / max(|t|, eps)
    squared log             (log(1 + p) - log(1 + t))^2
    Poisson                 exp(p) - t p                    -log likelihood of a count t
    Gaussian                (log v + e^2 / v) / 2           -log likelihood, v the variance

Sources: R. Koenker, G. Bassett, "Regression quantiles", Econometrica 1978; D. A. Nix, A. S.
Weigend, "Estimating the mean and variance of the target probability distribution", 1994.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments, limits, masking


def absolute_error(
    predictions: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the absolute error, |targets - predictions|.

    Args:
      predictions: `f32[...]`.
      targets: `f32[...]` of the same shape.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in the units of the targets. `L1Loss` in PyTorch,
      `MeanAbsoluteError` in Keras; the gradient at an error of 0 is 0.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ.

    Example:
      >>> absolute_error(jnp.array([1.0, -2.0]), jnp.array([0.5, 0.0])).tolist()
      [0.5, 2.0]
    """
    predictions, targets = arguments.as_floats(predictions=predictions, targets=targets)
    return masking.elementwise(
        lambda p, t: jnp.abs(limits.subtract(t, p)), where, predictions, targets
    )


def quantile_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    quantile: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the quantile (pinball) loss: errors above p are weighted by q, below by 1 - q.

    Its mean is minimized by the q-quantile of the targets.

    Args:
      predictions: `f32[...]`.
      targets: `f32[...]` of the same shape.
      quantile: q in (0, 1), or `f32[n]`, one for each entry of the last axis.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in the units of the targets.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or `quantile` is out of range.

    Example:
      >>> quantile_loss(jnp.zeros(2), jnp.array([1.0, -1.0]), 0.75).tolist()
      [0.75, 0.25]
    """
    predictions, targets = arguments.as_floats(predictions=predictions, targets=targets)
    if not isinstance(quantile, jax.core.Tracer):
        validation.open_interval("quantile", quantile, 0.0, 1.0)
    if np.shape(quantile) not in ((), predictions.shape[-1:]):
        raise ValueError(
            f"quantile must be a number or have shape {predictions.shape[-1:]}, one for each "
            f"entry of the last axis, got shape {np.shape(quantile)}"
        )
    q = jnp.asarray(quantile, predictions.dtype)

    def loss(p: jax.Array, t: jax.Array) -> jax.Array:
        error = limits.subtract(t, p)
        return q * jax.nn.relu(error) + (1 - q) * jax.nn.relu(-error)

    return masking.elementwise(loss, where, predictions, targets)


def absolute_percentage_error(
    predictions: ArrayLike, targets: ArrayLike, *, eps: float = 1e-7, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the absolute error in percent of the target, 100 |t - p| / max(|t|, eps).

    Args:
      predictions: `f32[...]`.
      targets: `f32[...]` of the same shape.
      eps: lower bound of |t| in the denominator, above 0, in the units of the targets.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in percent. `MeanAbsolutePercentageError` in Keras.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or `eps` is out of range.

    Example:
      >>> absolute_percentage_error(jnp.array([3.0]), jnp.array([4.0])).tolist()
      [25.0]
    """
    predictions, targets = arguments.as_floats(predictions=predictions, targets=targets)
    validation.open_interval("eps", eps, 0.0, math.inf)

    def loss(p: jax.Array, t: jax.Array) -> jax.Array:
        size = jnp.where(jnp.isinf(t), 1, jnp.maximum(jnp.abs(t), eps))
        return 100 * jnp.abs(limits.subtract(t, p)) / size

    return masking.elementwise(loss, where, predictions, targets)


def squared_log_error(
    predictions: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the squared error of logarithms, (log(1 + p) - log(1 + t))^2.

    Args:
      predictions: `f32[...]`; negative values are clipped to 0, with gradient 0.
      targets: `f32[...]` of the same shape, clipped in the same way.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, dimensionless. `MeanSquaredLogarithmicError` in Keras.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ.

    Example:
      >>> squared_log_error(jnp.array([0.0, 3.0]), jnp.array([0.0, 3.0])).tolist()
      [0.0, 0.0]
    """
    predictions, targets = arguments.as_floats(predictions=predictions, targets=targets)

    def loss(p: jax.Array, t: jax.Array) -> jax.Array:
        logarithms = jnp.log1p(jax.nn.relu(p)), jnp.log1p(jax.nn.relu(t))
        return limits.square(limits.subtract(*logarithms))

    return masking.elementwise(loss, where, predictions, targets)


def poisson_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the negative log likelihood of counts under Poisson distributions.

    Args:
      predictions: `f32[...]`, the logarithms of the rates, or the rates, at least 0. Above 59
        (473 in float64) the exponential continues as its tangent, which stays finite.
      targets: `f32[...]` of the same shape, the counts, at least 0.
      log_input: if True, predictions are logarithms and the loss is exp(p) - t p; if False, it
        is p - t log(p + eps).
      full: whether to add Stirling's approximation of log(t!), t log t - t + log(2 pi t) / 2,
        where t > 1.
      eps: added to a rate before its logarithm is taken, above 0.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in nats. `PoissonNLLLoss` in PyTorch; `Poisson` in Keras is
      `log_input=False, eps=1e-7`.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete rate or target is negative, or `eps` is out of range.

    Example:
      >>> poisson_nll_loss(jnp.array([0.0]), jnp.array([3.0])).tolist()
      [1.0]
    """

    def is_non_negative(x: np.ndarray) -> np.ndarray:
        return x >= 0

    rates, counts = arguments.as_floats(predictions=predictions, targets=targets)
    arguments.check_entries("targets", targets, "at least 0", is_non_negative, where)
    if not log_input:
        arguments.check_entries(
            "predictions", predictions, "rates, at least 0", is_non_negative, where
        )
    validation.open_interval("eps", eps, 0.0, math.inf)

    def loss(p: jax.Array, t: jax.Array) -> jax.Array:
        # The rate exceeds t log(rate) where it is infinite; inf - inf would be NaN.
        finite = jnp.where(p == jnp.inf, 0, p)
        if log_input:
            losses = _finite_exp(p) - limits.scale(t, finite)
        else:
            losses = p - t * jnp.log(finite + eps)
        return losses + _stirling(t) if full else losses

    return masking.elementwise(loss, where, rates, counts)


def _finite_exp(x: jax.Array) -> jax.Array:
    last = jnp.asarray(math.log(float(jnp.finfo(x.dtype).max)) * 2 / 3, x.dtype)
    tangent = jnp.exp(last) * (1 - last + x)
    return jnp.where(x > last, tangent, jnp.exp(jnp.minimum(x, last)))


def _stirling(t: jax.Array) -> jax.Array:
    counts = jnp.where(t > 1, t, 1)
    terms = counts * jnp.log(counts) - counts + 0.5 * jnp.log(2 * jnp.pi * counts)
    return jnp.where(t > 1, terms, 0)


def gaussian_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    variances: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the negative log likelihood of targets under normal distributions.

    Args:
      predictions: `f32[...]`, the means.
      targets: `f32[...]` of the same shape.
      variances: `f32[...]` of the same shape, at least 0. A variance below `eps` is replaced by
        `eps`, and has the gradient at `eps`, so that it can grow.
      full: whether to add log(2 pi) / 2.
      eps: the smallest variance, above 0, in the squared units of the targets.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in nats. `GaussianNLLLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete variance is negative, or `eps` is out of range.

    Example:
      >>> gaussian_nll_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0])).tolist()
      [2.0]
    """
    means, targets, checked = arguments.as_floats(
        predictions=predictions, targets=targets, variances=variances
    )
    arguments.check_entries("variances", variances, "at least 0", lambda x: x >= 0, where)
    validation.open_interval("eps", eps, 0.0, math.inf)

    def loss(p: jax.Array, t: jax.Array, v: jax.Array) -> jax.Array:
        v = _at_least(v, jnp.asarray(eps, v.dtype))
        # Scaling before squaring prevents overflow, also of the derivative by the variance. An
        # infinite variance has infinite loss.
        error = jnp.where(jnp.isinf(v), 0, limits.subtract(t, p))
        fixed = jax.lax.stop_gradient(jnp.where(jnp.isinf(v), 1, v))
        losses = 0.5 * (jnp.log(v) + (error * jax.lax.rsqrt(fixed)) ** 2 / (v / fixed))
        return losses + 0.5 * math.log(2 * math.pi) if full else losses

    return masking.elementwise(loss, where, means, targets, checked)


@jax.custom_jvp
def _at_least(x: jax.Array, low: jax.Array) -> jax.Array:
    """Returns the maximum; the derivative with respect to x is 1 everywhere."""
    return jnp.maximum(x, low)


@_at_least.defjvp
def _at_least_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _at_least(*primals), tangents[0]
