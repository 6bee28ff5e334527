"""Margin losses for classification: the correct class should lead by a margin.

With scores x, label y and C classes:

    squared hinge         max(0, 1 - t x)^2                               t = -1 or 1
    categorical hinge     max(0, 1 - x_y + max(0, max_{c != y} x_c))
    multiclass margin     sum_{c != y} w_y max(0, m - x_y + x_c)^p / C
    multilabel margin     sum_{i in labels} sum_{j not} max(0, m - x_i + x_j) / C
    multilabel soft       mean_c w_c (cross entropy of x_c)

Sources: J. Weston, C. Watkins, "Support vector machines for multi-class pattern recognition",
1999; K. Crammer, Y. Singer, JMLR 2001. The formulas follow PyTorch and Keras.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments, limits, masking
from jaxdescent.losses.classification import binary_cross_entropy_with_logits
from jaxdescent.losses.labels import check_labeled_scores


def squared_hinge_loss(
    predictions: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the squared hinge loss, max(0, 1 - t p)^2: `optax.losses.hinge_loss` squared.

    Args:
      predictions: `f32[...]`.
      targets: `f32[...]` of the same shape, -1 or 1; convert 0 or 1 by `2 * targets - 1`.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`. `SquaredHinge` in Keras.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a concrete target is not -1 or 1.

    Example:
      >>> squared_hinge_loss(jnp.array([0.5, 2.0]), jnp.array([-1, 1])).tolist()
      [2.25, 0.0]
    """
    scores, signs = arguments.as_floats(predictions=predictions, targets=targets)
    arguments.check_signs("targets", targets, where)

    def loss(p: jax.Array, t: jax.Array) -> jax.Array:
        return jax.nn.relu(1 - t * p) ** 2

    return masking.elementwise(loss, where, scores, signs)


def categorical_hinge_loss(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the hinge loss of the label's score against the largest other score and 0.

    The comparison with 0 follows Keras; `optax.losses.multiclass_hinge_loss` omits it.

    Args:
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to include.

    Returns:
      The losses, `f32[...]`; 0 where excluded. `CategoricalHinge` in Keras, which takes
      one-hot labels.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, or a concrete label is out of range or excluded. In compiled
        code, the loss of such a label is NaN.

    Example:
      >>> categorical_hinge_loss(jnp.array([[2.0, 1.5, -1.0]]), jnp.array([0])).tolist()
      [0.5]
    """
    rows = check_labeled_scores("scores", scores, labels, where)
    runner_up = jnp.max(masking.keep(rows.others, rows.scores), axis=-1)  # 0 at the label
    lead = limits.subtract(rows.at_label(rows.scores), runner_up)
    return rows.mask_losses(jax.nn.relu(1 - lead))


def multiclass_margin_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the mean hinge loss of the label's score against every other class.

    Args:
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      p: the power of each hinge, 1 or 2.
      margin: the required lead of the label's score, at least 0, in units of the scores.
      class_weights: `f32[classes]`, the weight of each class, at least 0.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to include.

    Returns:
      The losses, `f32[...]`: the sum over the other classes divided by the number of all
      classes; 0 where excluded. `MultiMarginLoss` in PyTorch.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, a number is out of range, or a concrete label is out of range
        or excluded. In compiled code, the loss of such a label is NaN.

    Example:
      >>> multiclass_margin_loss(jnp.array([[2.0, 1.5, -1.0, 1.5]]), jnp.array([0])).tolist()
      [0.25]
    """
    if isinstance(p, bool) or p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    validation.check_non_negative("margin", margin)
    rows = check_labeled_scores("scores", scores, labels, where)
    lead = limits.subtract(rows.at_label(rows.scores)[..., None], rows.scores)
    hinges = jax.nn.relu(margin - lead)
    hinges = limits.square(hinges) if p == 2 else hinges
    losses = rows.mask.mean(masking.keep(rows.others, hinges))
    if class_weights is not None:
        weights = arguments.as_weights("class_weights", class_weights, rows.scores)
        losses = limits.scale(weights[rows.labels], losses)
    return rows.mask_losses(losses)


def multilabel_margin_loss(
    scores: ArrayLike, labels: ArrayLike, *, margin: float = 1.0, where: ArrayLike | None = None
) -> jax.Array:
    """Computes the hinge loss of each present class against each absent class.

    Args:
      scores: `f32[..., classes]`. Memory grows with the square of the number of classes.
      labels: `bool[..., classes]`, or 0 and 1: the classes that are present. (PyTorch takes
        their indices.)
      margin: the required lead of present classes, at least 0, in units of the scores.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to include.

    Returns:
      The losses, `f32[...]`: the sum over pairs divided by the number of classes; 0 where
      excluded. `MultiLabelMarginLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete label is not 0 or 1, or the margin is negative.

    Example:
      >>> multilabel_margin_loss(jnp.array([[2.0, 1.5]]), jnp.array([[True, False]])).tolist()
      [0.25]
    """
    validation.check_non_negative("margin", margin)
    values, present = arguments.as_floats(scores=scores, labels=labels)
    arguments.last_axis_size("scores", values)
    mask = masking.RowMask.from_where(where, values.shape)
    arguments.check_entries("labels", labels, "0 or 1", lambda y: (y == 0) | (y == 1), where)
    values, present = mask.fill(values), mask.fill(present)
    absent = mask.fill(1 - present)
    lead = limits.subtract(values[..., :, None], values[..., None, :])
    pairs = present[..., :, None] * absent[..., None, :]
    shortfall = limits.scale(pairs, jax.nn.relu(margin - lead))
    return jnp.sum(shortfall, axis=(-2, -1)) / mask.counts(values)


def multilabel_soft_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the binary cross entropy of each class, averaged over the classes.

    Args:
      logits: `f32[..., classes]`.
      labels: `f32[..., classes]`, the probability in [0, 1] that each class is present.
      class_weights: `f32[classes]`, the weight of each class, at least 0.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes to include.

    Returns:
      The losses, `f32[...]`, in nats; 0 where excluded. `MultiLabelSoftMarginLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a concrete label or a weight is out of range.

    Example:
      >>> losses = multilabel_soft_margin_loss(jnp.zeros((1, 2)), jnp.array([[0, 1]]))
      >>> [round(float(loss), 4) for loss in losses]
      [0.6931]
    """
    values, present = arguments.as_floats(logits=logits, labels=labels)
    arguments.last_axis_size("logits", values)
    mask = masking.RowMask.from_where(where, values.shape)
    arguments.check_probabilities("labels", labels, where)
    losses = binary_cross_entropy_with_logits(mask.fill(values), mask.fill(present))
    if class_weights is not None:
        weights = arguments.as_weights("class_weights", class_weights, values)
        losses = limits.scale(weights, losses)
    return mask.mean(losses)
