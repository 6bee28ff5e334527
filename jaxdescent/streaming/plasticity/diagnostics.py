"""Measurements of hidden activations that show a loss of plasticity.

A dormant unit is nearly silent relative to its layer: mean |h_i| / mean_j mean |h_j| <= threshold.
The rank of a layer's activations, a matrix of examples and units, counts the directions in use:

    effective rank    exp(-sum_i p_i log p_i), p_i = s_i / sum_j s_j    of the singular values s
    threshold rank    the least k such that s_1 + ... + s_k >= mass * sum_j s_j

Sources: G. Sokar et al. 2023, "The dormant neuron phenomenon in deep reinforcement learning",
arXiv:2302.12902; O. Roy, M. Vetterli 2007, "The effective rank", EUSIPCO; A. Kumar et al. 2020,
"Implicit under-parameterization inhibits data-efficient deep reinforcement learning",
arXiv:2010.14498 (the threshold rank, called srank there, with mass 0.99).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.numerics import at_least_float32


def dormant_units(activations: ArrayLike, threshold: float | jax.Array = 0.0) -> jax.Array:
    """Returns bool[units], True for each dormant unit. The mean is the dormant fraction.

    In a layer that is silent as a whole, all units are dormant. In a layer with NaN, none is.

    Args:
      activations: f[..., units], of one layer after its nonlinearity.
      threshold: in [0, inf). At 0 only units that are silent on all examples are dormant; 0.1 is
        the paper's.

    Raises:
      TypeError: `activations` is not numeric.
      ValueError: `activations` has no axis of units or no entry, or `threshold` is negative.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> jd.streaming.dormant_units(jnp.array([[0.0, 1.0, 0.1], [0.0, 2.0, 0.0]]), 0.1)
      Array([ True, False,  True], dtype=bool)
    """
    validation.check_non_negative("threshold", threshold)
    score = mean_magnitudes("activations", activations)
    # Multiplied out: a silent layer has no mean to divide by.
    return score <= threshold * jnp.mean(score)


def mean_magnitudes(name: str, activations: ArrayLike) -> jax.Array:
    """Returns f[units], the mean absolute activation of each unit over all examples."""
    h = _activations(name, activations, least_axes=1)
    return jnp.mean(jnp.abs(h), axis=tuple(range(h.ndim - 1)))


def effective_rank(activations: ArrayLike) -> jax.Array:
    """Returns f[], the exponential of the entropy of the singular values; 0 for zeros, NaN for NaN.

    Args:
      activations: f[..., units], of one layer. Activations are not centered.

    Raises:
      TypeError: `activations` is not numeric.
      ValueError: `activations` has fewer than two axes, or no entry.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> round(float(jd.streaming.effective_rank(jnp.eye(5))), 4)
      5.0
    """
    s = _singular_values(activations)
    total = jnp.sum(s)
    p = s / jnp.where(total > 0, total, 1)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
    return jnp.where(total > 0, jnp.exp(entropy), total)  # 0 or NaN


def threshold_rank(activations: ArrayLike, mass: float | jax.Array = 0.99) -> jax.Array:
    """Returns i32[], how many singular values add up to a share of their sum; 0 for zeros or NaN.

    Args:
      activations: f[..., units], of one layer. Activations are not centered.
      mass: the share, in (0, 1].

    Raises:
      TypeError: `activations` is not numeric.
      ValueError: `activations` has fewer than two axes or no entry, or `mass` is out of its range.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> int(jd.streaming.threshold_rank(jnp.diag(jnp.array([98.0, 1.0, 1.0]))))
      2
    """
    validation.positive_up_to("mass", mass, 1)
    s = _singular_values(activations)
    total = jnp.sum(s)
    # Rounding may leave the whole sum just under its share.
    enough = jnp.cumsum(s) >= mass * total * (1 - s.size * jnp.finfo(s.dtype).eps)
    return jnp.where(total > 0, 1 + jnp.argmax(enough), 0).astype(jnp.int32)


def _singular_values(activations: ArrayLike) -> jax.Array:
    h = _activations("activations", activations, least_axes=2)
    return jnp.linalg.svd(h.reshape(-1, h.shape[-1]), compute_uv=False)


def _activations(name: str, value: ArrayLike, least_axes: int) -> jax.Array:
    h = validation.arrays(name, value)
    if not isinstance(h, jax.Array) or h.ndim < least_axes or not h.size:
        found = f"shape {h.shape}" if isinstance(h, jax.Array) else validation.shown(value)
        axes = "[..., units]" if least_axes == 1 else "[examples, ..., units]"
        raise ValueError(f"{name} must be an array of shape {axes} with entries, got {found}")
    return h.astype(at_least_float32(h.dtype))
