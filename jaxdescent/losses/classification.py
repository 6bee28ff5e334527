"""Classification by likelihood: cross entropies with weights, masks and more.

With logits x, label y and p = softmax(x):

    cross entropy    -w_y log p_y + z (log sum exp x)^2
    smoothed         -(1 - s) w_y log p_y - (s / C) sum_c w_c log p_c, for the first term
    focal            -a_y (1 - p_y)^g log p_y
    binary           -w y log sigmoid(x) - (1 - y) log(1 - sigmoid(x))

The logits are taken relative to their largest, so that nothing overflows and little cancels.

Sources: smoothing is C. Szegedy et al., 2015, arXiv:1512.00567; the z-loss, which keeps the
softmax's normalizer near 1, A. Chowdhery et al. (PaLM), 2022, arXiv:2204.02311; the focal
loss T.-Y. Lin et al., 2017, arXiv:1708.02002.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent.losses import arguments, masking
from jaxdescent.losses.labels import LabeledScores, labeled


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The cross entropy of independent yes-or-no predictions, element by element.

    Args:
      logits: `f32[...]`.
      labels: `f32[...]` of the same shape, probabilities of yes in [0, 1].
      pos_weight: what a yes counts for, at least 0: a number, or `f32[n]`, one for each
        entry of the last axis. Often the ratio of noes to yeses in the data.
      where: `bool[...]` of the same shape, what to include; the rest is 0.

    Returns:
      The losses, `f32[...]`, in nats. `BCEWithLogitsLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, or a label that is known or a weight is out of range.

    Example:
      >>> losses = binary_cross_entropy_with_logits(jnp.zeros(2), jnp.array([0, 1]), pos_weight=3.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.6931, 2.0794]
    """
    scores, targets = arguments.floats(logits=logits, labels=labels)
    arguments.probabilities("labels", labels, where)
    weight = 1.0
    if pos_weight is not None:
        weight = arguments.weights("pos_weight", pos_weight, scores, scalar=True)

    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        return weight * y * jax.nn.softplus(-x) + (1 - y) * jax.nn.softplus(x)

    return masking.elementwise(loss, where, scores, targets)


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The softmax cross entropy of integer labels.

    Args:
      logits: `f32[..., classes]`; in PyTorch's order, `jnp.moveaxis(logits, 1, -1)`.
      labels: `int[...]` in [0, classes).
      class_weights: `f32[classes]`, what an example of each class counts for, at least 0.
        The mean in PyTorch is then `jnp.sum(losses) / jnp.sum(class_weights[labels])`.
      ignore_index: a label whose examples are left out, in range or not.
      label_smoothing: s in [0, 1], the part of the label that is spread over all classes.
      z_loss: what the square of log sum exp counts for, at least 0; 1e-4 is usual. It is not
        weighted by class.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to
        include: the others have probability 0.

    Returns:
      The losses, `f32[...]`, in nats; 0 where left out. `CrossEntropyLoss` in PyTorch,
      `SparseCategoricalCrossentropy(from_logits=True)` in Keras.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, or a number is not as it must be. In
        compiled code a label out of range, or of a class left out, makes its loss NaN.

    Example:
      >>> losses = cross_entropy(jnp.zeros((2, 4)), jnp.array([1, 9]), ignore_index=9)
      >>> [round(float(loss), 4) for loss in losses]
      [1.3863, 0.0]
    """
    arguments.number_in("label_smoothing", label_smoothing, 0.0, 1.0)
    arguments.non_negative("z_loss", z_loss)
    rows = labeled("logits", logits, labels, where, ignore_index)
    shift, normalizer, relative = _relative(rows)
    losses = normalizer - rows.of_label(relative)
    weights: Any = 1
    if class_weights is not None:
        weights = arguments.weights("class_weights", class_weights, rows.scores)
        losses = weights[rows.labels] * losses
    if not _is_zero(label_smoothing):
        of_classes = rows.left.mean(weights * (normalizer[..., None] - relative))
        losses = (1 - label_smoothing) * losses + label_smoothing * of_classes
    if not _is_zero(z_loss):
        losses = losses + z_loss * (normalizer + shift) ** 2
    return rows.losses(losses)


def categorical_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: ArrayLike = 0.25,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The softmax cross entropy, less of it for examples that are predicted well.

    Args:
      logits: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      gamma: how much less, at least 0: the loss is multiplied by (1 - p)^gamma.
      alpha: what an example counts for, at least 0: a number, or `f32[classes]`.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to
        include: the others have probability 0.

    Returns:
      The losses, `f32[...]`, in nats; 0 where left out. `CategoricalFocalCrossentropy` in
      Keras, which takes one-hot labels and keeps probabilities 1e-7 away from 0 and 1.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, or a number is not as it must be. In
        compiled code a label out of range, or of a class left out, makes its loss NaN.

    Example:
      >>> losses = categorical_focal_loss(jnp.zeros((1, 2)), jnp.array([1]), alpha=1.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.1733]
    """
    arguments.non_negative("gamma", gamma)
    rows = labeled("logits", logits, labels, where)
    weights = arguments.weights("alpha", alpha, rows.scores, scalar=True)
    _, normalizer, relative = _relative(rows)
    losses = normalizer - rows.of_label(relative)
    missed = -jnp.expm1(-losses)
    missed = jnp.where(missed > 0, missed, 1)  # a power of 0 may have no derivative; the loss is 0
    weights = weights[rows.labels] if weights.ndim else weights
    return rows.losses(weights * missed**gamma * losses)


def _relative(rows: LabeledScores) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The largest logit, log sum exp less it, and all logits less it."""
    classes = rows.left.coordinates
    largest = jnp.max(rows.scores, axis=-1, keepdims=True, where=classes, initial=-jnp.inf)
    largest = jax.lax.stop_gradient(largest)
    relative = rows.left.fill(rows.scores - largest)
    normalizer = jnp.log(jnp.sum(jnp.exp(relative), axis=-1, where=classes))
    return largest[..., 0], normalizer, relative


def _is_zero(setting: Any) -> bool:
    return not isinstance(setting, jax.core.Tracer) and setting == 0
