"""Losses of regions: one minus how much of a prediction and its target overlap.

With probabilities p and targets y, over all pixels,

    hits = sum p y,   false alarms = sum p (1 - y),   misses = sum (1 - p) y
    Tversky index = (hits + s) / (hits + a false alarms + b misses + s)

a = b = 1/2 is the Dice coefficient (`optax.losses.dice_loss` works per class on logits),
a = b = 1 the intersection over union, b > a asks for more recall.

Source: S. S. M. Salehi, D. Erdogmus, A. Gholipour, 2017, arXiv:1706.05721; M. A. Rahman,
Y. Wang, "Optimizing intersection-over-union in deep neural networks", 2016.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

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
    """One minus the Tversky index of predicted and true regions.

    Args:
      predictions: `f32[...]`, probabilities in [0, 1]; of logits, take `jax.nn.sigmoid`.
      targets: `f32[...]` of the same shape, in [0, 1].
      alpha: what false alarms count for, at least 0. Keras has `alpha` and `beta` the other
        way round.
      beta: what misses count for, at least 0.
      smooth: added to numerator and denominator, at least 0, in pixels. At 0, regions that
        are both empty overlap fully.
      axis: the axes of the pixels, such as `(1, 2)` for `[batch, height, width]`: all by
        default.
      where: `bool[...]` of the same shape, the pixels to include.

    Returns:
      The losses in [0, 1], of the shape that is left. `Tversky` in Keras with `smooth=1e-7`.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, or what is known of the entries, or a number, is out of range.

    Example:
      >>> predictions, targets = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
      >>> float(tversky_loss(predictions, targets, alpha=1.0, beta=0.0, smooth=0.0))
      0.5
    """
    for name, setting in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
        arguments.non_negative(name, setting)
    p, y = arguments.floats(predictions=predictions, targets=targets)
    if where is not None:
        where = arguments.mask(where, p.shape)
    arguments.probabilities("predictions", predictions, where)
    arguments.probabilities("targets", targets, where)
    p, y = keep(where, p), keep(where, y)
    hits, false_alarms, misses = (jnp.sum(x, axis) for x in (p * y, p * (1 - y), (1 - p) * y))
    missed = alpha * false_alarms + beta * misses
    whole = hits + missed + smooth
    return jnp.where(whole > 0, missed / jnp.where(whole > 0, whole, 1), 0)


def iou_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: float = 1.0,
    axis: int | tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus the intersection over union of predicted and true regions (soft Jaccard).

    Args:
      predictions: `f32[...]`, probabilities in [0, 1]; of logits, take `jax.nn.sigmoid`.
      targets: `f32[...]` of the same shape, in [0, 1].
      smooth: added to intersection and union, at least 0, in pixels. At 0, regions that are
        both empty overlap fully.
      axis: the axes of the pixels, such as `(1, 2)` for `[batch, height, width]`: all by
        default.
      where: `bool[...]` of the same shape, the pixels to include.

    Returns:
      The losses in [0, 1], of the shape that is left.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, or what is known of the entries, or `smooth`, is out of range.

    Example:
      >>> predictions, targets = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
      >>> float(iou_loss(predictions, targets, smooth=0.0))
      0.5
    """
    return tversky_loss(
        predictions, targets, alpha=1.0, beta=1.0, smooth=smooth, axis=axis, where=where
    )
