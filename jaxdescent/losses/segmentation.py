"""Losses for segmentation: one minus the overlap of predicted and true regions.

With probabilities p and targets y, summed over all pixels,

    TP = sum p y,   FP = sum p (1 - y),   FN = sum (1 - p) y
    Tversky index = (TP + s) / (TP + alpha FP + beta FN + s)

alpha = beta = 1/2 gives the Dice coefficient (`optax.losses.dice_loss` works per class on
logits), alpha = beta = 1 gives the intersection over union, and beta > alpha favors recall.

Sources: S. S. M. Salehi, D. Erdogmus, A. Gholipour, 2017, arXiv:1706.05721; M. A. Rahman,
Y. Wang, "Optimizing intersection-over-union in deep neural networks", 2016.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments
from jaxdescent.losses.masking import keep


def tversky_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    axis: int | tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes one minus the Tversky index of predicted and true regions.

    Args:
      predictions: `f32[...]`, probabilities in [0, 1]; convert logits by `jax.nn.sigmoid`.
      targets: `f32[...]` of the same shape, in [0, 1].
      alpha: the weight of false positives, at least 0. Keras exchanges `alpha` and `beta`.
      beta: the weight of false negatives, at least 0.
      smooth: added to numerator and denominator, at least 0, in pixels. With 0, two empty
        regions overlap fully.
      axis: the axes of the pixels, such as `(1, 2)` for `[batch, height, width]`; all by
        default.
      where: `bool[...]` of the same shape, the pixels to include.

    Returns:
      The losses in [0, 1], of the shape without `axis`. `Tversky` in Keras with `smooth=1e-7`.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a concrete entry or a number is out of range.

    Example:
      >>> predictions, targets = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
      >>> float(tversky_loss(predictions, targets, alpha=1.0, beta=0.0, smooth=0.0))
      0.5
    """
    for name, setting in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
        validation.check_non_negative(name, setting)
    p, y = arguments.as_floats(predictions=predictions, targets=targets)
    if where is not None:
        where = arguments.as_mask(where, p.shape)
    arguments.check_probabilities("predictions", predictions, where)
    arguments.check_probabilities("targets", targets, where)
    p, y = keep(where, p), keep(where, y)
    tp, fp, fn = (jnp.sum(x, axis) for x in (p * y, p * (1 - y), (1 - p) * y))
    errors = alpha * fp + beta * fn
    total = tp + errors + smooth
    return jnp.where(total > 0, errors / jnp.where(total > 0, total, 1), 0)


def iou_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: float = 1.0,
    axis: int | tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes one minus the intersection over union of two regions (soft Jaccard).

    Args:
      predictions: `f32[...]`, probabilities in [0, 1]; convert logits by `jax.nn.sigmoid`.
      targets: `f32[...]` of the same shape, in [0, 1].
      smooth: added to intersection and union, at least 0, in pixels. With 0, two empty regions
        overlap fully.
      axis: the axes of the pixels, such as `(1, 2)` for `[batch, height, width]`; all by
        default.
      where: `bool[...]` of the same shape, the pixels to include.

    Returns:
      The losses in [0, 1], of the shape without `axis`.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a concrete entry or `smooth` is out of range.

    Example:
      >>> predictions, targets = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
      >>> float(iou_loss(predictions, targets, smooth=0.0))
      0.5
    """
    return tversky_loss(
        predictions, targets, alpha=1.0, beta=1.0, smooth=smooth, axis=axis, where=where
    )
