"""Classification by likelihood: cross entropies with weights, masks, smoothing and focus.

With logits x, label y and p = softmax(x):

    cross entropy    -w_y log p_y + z (log sum exp x)^2
    smoothed         -(1 - s) w_y log p_y - (s / C) sum_c w_c log p_c, for the first term
    focal            -a_y (1 - p_y)^g log p_y
    binary           -w y log sigmoid(x) - (1 - y) log(1 - sigmoid(x))

The largest logit is subtracted first, which prevents overflow and limits cancellation. Logits may
be infinite: -inf rules a class out, and equal logits have equal probabilities. A loss is then 0
where the label agrees and infinite where it does not. All gradients of finite losses are finite.

Sources: C. Szegedy et al., 2015, arXiv:1512.00567 (label smoothing); A. Chowdhery et al. (PaLM),
2022, arXiv:2204.02311 (the z-loss, which keeps the softmax normalizer near 1); T.-Y. Lin et al.,
2017, arXiv:1708.02002 (focal loss).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments, limits, masking
from jaxdescent.losses.labels import LabeledScores, check_labeled_scores


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the cross entropy of independent binary predictions, element by element.

    Args:
      logits: `f32[...]`.
      labels: `f32[...]` of the same shape, probabilities of the positive class in [0, 1].
      pos_weight: weight of the positive class, at least 0: a number, or `f32[n]`, one for each
        entry of the last axis. Often the ratio of negatives to positives in the data.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`, in nats. `BCEWithLogitsLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a concrete label or a weight is out of range.

    Example:
      >>> losses = binary_cross_entropy_with_logits(jnp.zeros(2), jnp.array([0, 1]), pos_weight=3.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.6931, 2.0794]
    """
    scores, targets = arguments.as_floats(logits=logits, labels=labels)
    arguments.check_probabilities("labels", labels, where)
    weight = 1.0
    if pos_weight is not None:
        weight = arguments.as_weights("pos_weight", pos_weight, scores, scalar=True)

    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        present = limits.scale(weight * y, jax.nn.softplus(-x))
        return present + limits.scale(1 - y, jax.nn.softplus(x))

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
    """Computes the softmax cross entropy of integer labels.

    Args:
      logits: `f32[..., classes]`; convert from PyTorch's layout by `jnp.moveaxis(logits, 1, -1)`.
      labels: `int[...]` in [0, classes).
      class_weights: `f32[classes]`, the weight of each class, at least 0. `mean_cross_entropy` is
        PyTorch's weighted mean of the losses.
      ignore_index: a label whose examples are excluded; may be out of range.
      label_smoothing: s in [0, 1], the share of the label that is spread over all classes.
      z_loss: the weight of the squared log sum exp, at least 0; typically 1e-4. Class weights
        do not apply to it.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to
        include; the others have probability 0.

    Returns:
      The losses, `f32[...]`, in nats; 0 where excluded. `CrossEntropyLoss` in PyTorch,
      `SparseCategoricalCrossentropy(from_logits=True)` in Keras.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, a number is out of range, or a concrete label is out of range
        or excluded. In compiled code, the loss of such a label is NaN.

    Example:
      >>> losses = cross_entropy(jnp.zeros((2, 4)), jnp.array([1, 9]), ignore_index=9)
      >>> [round(float(loss), 4) for loss in losses]
      [1.3863, 0.0]
    """
    terms = _cross_entropy_terms(
        logits, labels, class_weights, ignore_index, label_smoothing, z_loss, where
    )
    return terms.rows.mask_losses(terms.losses + terms.penalties)


def mean_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the mean of `cross_entropy`, weighted by the weight of each example's label.

    The sum of the losses is divided by the sum of `class_weights[labels]`, both over the examples
    that are included. Without class weights, it is the mean over these examples.

    Args:
      logits: `f32[..., classes]`, such as `[batch, height, width, classes]`; convert from PyTorch's
        layout by `jnp.moveaxis(logits, 1, -1)`.
      labels: `int[...]` in [0, classes).
      class_weights: `f32[classes]`, the weight of each class, at least 0.
      ignore_index: as for `cross_entropy`.
      label_smoothing: as for `cross_entropy`. Class weights apply to all classes that share the
        label, and the mean is divided by the weight of the label alone, as in PyTorch.
      z_loss: as for `cross_entropy`. Its mean is not weighted.
      where: as for `cross_entropy`.

    Returns:
      The mean, `f32[]`, in nats; 0 if all examples are excluded or all their labels have weight
      0, where PyTorch returns NaN. `CrossEntropyLoss` in PyTorch, with its default reduction.

    Raises:
      TypeError: as for `cross_entropy`.
      ValueError: as for `cross_entropy`. In compiled code, a label out of range makes the mean NaN.

    Example:
      >>> logits, labels = jnp.zeros((3, 4)), jnp.array([1, 2, 9])
      >>> weights = jnp.array([1.0, 5.0, 1.0, 1.0])
      >>> loss = mean_cross_entropy(logits, labels, class_weights=weights, ignore_index=9)
      >>> round(float(loss), 4)
      1.3863
    """
    terms = _cross_entropy_terms(
        logits, labels, class_weights, ignore_index, label_smoothing, z_loss, where
    )
    total = jnp.sum(masking.keep(terms.rows.mask.rows, terms.weights))
    mean = jnp.sum(terms.rows.mask_losses(terms.losses)) / jnp.where(total > 0, total, 1)
    mean = limits.scale(jnp.where(total > 0, 1, jnp.zeros_like(total)), mean)
    return mean + masking.masked_mean(terms.penalties, terms.rows.mask.rows)


class _Terms(NamedTuple):
    """The parts of a cross entropy, for each example `[...]`.

    Attributes:
      rows: the checked scores and labels.
      losses: the cross entropies, with class weights and label smoothing.
      weights: the weights of the labels.
      penalties: the z-losses.
    """

    rows: LabeledScores
    losses: jax.Array
    weights: jax.Array
    penalties: jax.Array


def _cross_entropy_terms(
    logits: Any,
    labels: Any,
    class_weights: Any,
    ignore_index: int | None,
    label_smoothing: Any,
    z_loss: Any,
    where: Any,
) -> _Terms:
    """Checks the arguments of `cross_entropy` and computes its terms."""
    arguments.check_number_in("label_smoothing", label_smoothing, 0.0, 1.0)
    validation.check_non_negative("z_loss", z_loss)
    rows = check_labeled_scores("logits", logits, labels, where, ignore_index)
    shift, normalizer, relative = _relative(rows)
    losses = normalizer - rows.at_label(relative)
    weights, of_labels = jnp.ones_like(rows.scores[..., :1]), jnp.ones_like(losses)
    if class_weights is not None:
        weights = arguments.as_weights("class_weights", class_weights, rows.scores)
        of_labels = weights[rows.labels]
        losses = limits.scale(of_labels, losses)
    if not _is_zero(label_smoothing):
        uniform = rows.mask.mean(limits.scale(weights, normalizer[..., None] - relative))
        losses = limits.scale(1 - label_smoothing, losses) + limits.scale(label_smoothing, uniform)
    penalties = jnp.zeros_like(losses)
    if not _is_zero(z_loss):
        penalties = limits.scale(z_loss, limits.square(normalizer + shift))
    return _Terms(rows, losses, of_labels, penalties)


def categorical_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: ArrayLike = 0.25,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the focal loss: the cross entropy, down-weighted for well-classified examples.

    Args:
      logits: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      gamma: the focusing exponent, at least 0: the loss is multiplied by (1 - p)^gamma.
      alpha: the weight of an example, at least 0: a number, or `f32[classes]`.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to
        include; the others have probability 0.

    Returns:
      The losses, `f32[...]`, in nats; 0 where excluded. `CategoricalFocalCrossentropy` in
      Keras, which takes one-hot labels and keeps probabilities 1e-7 away from 0 and 1.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, a number is out of range, or a concrete label is out of range
        or excluded. In compiled code, the loss of such a label is NaN.

    Example:
      >>> losses = categorical_focal_loss(jnp.zeros((1, 2)), jnp.array([1]), alpha=1.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.1733]
    """
    validation.check_non_negative("gamma", gamma)
    rows = check_labeled_scores("logits", logits, labels, where)
    weights = arguments.as_weights("alpha", alpha, rows.scores, scalar=True)
    _, normalizer, relative = _relative(rows)
    losses = normalizer - rows.at_label(relative)
    # At probability 1, a power of 0 may lack a derivative. At 0, the factor is 1.
    between = (losses > 0) & (losses < jnp.inf)
    missed = jnp.where(between, -jnp.expm1(-jnp.where(between, losses, 1)), 1)
    weights = weights[rows.labels] if weights.ndim else weights
    return rows.mask_losses(limits.scale(weights, missed**gamma * losses))


def _relative(rows: LabeledScores) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the largest logit, and log sum exp and all logits relative to it."""
    classes = rows.mask.coordinates
    largest = jnp.max(rows.scores, axis=-1, keepdims=True, where=classes, initial=-jnp.inf)
    largest = jax.lax.stop_gradient(largest)
    relative = rows.mask.fill(limits.subtract(rows.scores, largest))
    normalizer = jnp.log(jnp.sum(jnp.exp(relative), axis=-1, where=classes))
    return largest[..., 0], normalizer, relative


def _is_zero(setting: Any) -> bool:
    return not isinstance(setting, jax.core.Tracer) and setting == 0
