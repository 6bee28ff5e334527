"""Classification by margins: the right class must lead by 1, or by as much as is asked.

With scores x, label y and C classes:

    squared hinge         max(0, 1 - t x)^2                               t = -1 or 1
    categorical hinge     max(0, 1 - x_y + max(0, max_{c != y} x_c))
    multiclass margin     sum_{c != y} w_y max(0, m - x_y + x_c)^p / C
    multilabel margin     sum_{i in labels} sum_{j not} max(0, m - x_i + x_j) / C
    multilabel soft       mean_c w_c (cross entropy of x_c)

Sources: J. Weston, C. Watkins, "Support vector machines for multi-class pattern recognition",
1999; K. Crammer, Y. Singer, JMLR 2001; the formulas are those of PyTorch and Keras.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent.losses import arguments, masking
from jaxdescent.losses.classification import binary_cross_entropy_with_logits
from jaxdescent.losses.labels import labeled


def squared_hinge_loss(
    predictions: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The squared hinge loss, max(0, 1 - t p)^2: `optax.losses.hinge_loss`, smooth.

    Args:
      predictions: `f32[...]`.
      targets: `f32[...]` of the same shape, -1 or 1; of 0 or 1, take `2 * targets - 1`.
      where: `bool[...]` of the same shape, what to include; the rest is 0.

    Returns:
      The losses, `f32[...]`. `SquaredHinge` in Keras.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, or a target that is known is neither -1 nor 1.

    Example:
      >>> squared_hinge_loss(jnp.array([0.5, 2.0]), jnp.array([-1, 1])).tolist()
      [2.25, 0.0]
    """
    scores, signs = arguments.floats(predictions=predictions, targets=targets)
    arguments.signs("targets", targets, where)
    loss = lambda p, t: jax.nn.relu(1 - t * p) ** 2
    return masking.elementwise(loss, where, scores, signs)


def categorical_hinge_loss(
    scores: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """How far the label's score is from leading the others, and 0, by 1.

    That 0 counts among the others is Keras's; `optax.losses.multiclass_hinge_loss` is the
    loss without it.

    Args:
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes.

    Returns:
      The losses, `f32[...]`; 0 where left out. `CategoricalHinge` in Keras, which takes
      one-hot labels.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, is not as it must be. In compiled code a
        label out of range, or of a class left out, makes its loss NaN.

    Example:
      >>> categorical_hinge_loss(jnp.array([[2.0, 1.5, -1.0]]), jnp.array([0])).tolist()
      [0.5]
    """
    rows = labeled("scores", scores, labels, where)
    runner_up = jnp.max(masking.keep(rows.others, rows.scores), axis=-1)  # 0 at the label
    return rows.losses(jax.nn.relu(1 - rows.of_label(rows.scores) + runner_up))


def multiclass_margin_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """What every other class lacks to being a margin behind the label's, on average.

    Args:
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      p: the power of each shortfall, 1 or 2.
      margin: by how much the label's score should lead, at least 0, in units of the scores.
      class_weights: `f32[classes]`, what an example of each class counts for, at least 0.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes.

    Returns:
      The losses, `f32[...]`, sums over the other classes divided by the number of all; 0
      where left out. `MultiMarginLoss` in PyTorch.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, or a number is not as it must be. In
        compiled code a label out of range, or of a class left out, makes its loss NaN.

    Example:
      >>> multiclass_margin_loss(jnp.array([[2.0, 1.5, -1.0, 1.5]]), jnp.array([0])).tolist()
      [0.25]
    """
    if isinstance(p, bool) or p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    arguments.non_negative("margin", margin)
    rows = labeled("scores", scores, labels, where)
    lead = rows.of_label(rows.scores)[..., None] - rows.scores
    losses = rows.left.mean(masking.keep(rows.others, jax.nn.relu(margin - lead) ** p))
    if class_weights is not None:
        weights = arguments.weights("class_weights", class_weights, rows.scores)
        losses = weights[rows.labels] * losses
    return rows.losses(losses)


def multilabel_margin_loss(
    scores: ArrayLike, labels: ArrayLike, *, margin: float = 1.0, where: ArrayLike | None = None
) -> jax.Array:
    """What each class that is absent lacks to being a margin behind each that is present.

    Args:
      scores: `f32[..., classes]`. Memory goes with the square of classes.
      labels: `bool[..., classes]`, or 0 and 1: which classes are present. (PyTorch takes
        their indices.)
      margin: by how much present should lead, at least 0, in units of the scores.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes.

    Returns:
      The losses, `f32[...]`, sums over pairs divided by the number of classes; 0 where left
      out. `MultiLabelMarginLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a label that is known is neither 0 nor 1, or the margin is
        negative.

    Example:
      >>> multilabel_margin_loss(jnp.array([[2.0, 1.5]]), jnp.array([[True, False]])).tolist()
      [0.25]
    """
    arguments.non_negative("margin", margin)
    values, present = arguments.floats(scores=scores, labels=labels)
    arguments.last_axis("scores", values)
    left = masking.Rows.of(where, values.shape)
    arguments.contents("labels", labels, "0 or 1", lambda y: (y == 0) | (y == 1), where)
    values, present = left.fill(values), left.fill(present)
    absent = left.fill(1 - present)
    shortfall = jax.nn.relu(margin - (values[..., :, None] - values[..., None, :]))
    pairs = present[..., :, None] * absent[..., None, :]
    return jnp.sum(pairs * shortfall, axis=(-2, -1)) / left.sizes(values)


def multilabel_soft_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The binary cross entropy of each class, on average over the classes.

    Args:
      logits: `f32[..., classes]`.
      labels: `f32[..., classes]`, the probability in [0, 1] that each class is present.
      class_weights: `f32[classes]`, what each class counts for, at least 0.
      where: `bool[...]`, the examples to include, or `bool[..., classes]`, the classes.

    Returns:
      The losses, `f32[...]`, in nats; 0 where left out. `MultiLabelSoftMarginLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, or a label that is known or a weight is out of range.

    Example:
      >>> losses = multilabel_soft_margin_loss(jnp.zeros((1, 2)), jnp.array([[0, 1]]))
      >>> [round(float(loss), 4) for loss in losses]
      [0.6931]
    """
    values, present = arguments.floats(logits=logits, labels=labels)
    arguments.last_axis("logits", values)
    left = masking.Rows.of(where, values.shape)
    arguments.probabilities("labels", labels, where)
    losses = binary_cross_entropy_with_logits(left.fill(values), left.fill(present))
    if class_weights is not None:
        losses = arguments.weights("class_weights", class_weights, values) * losses
    return left.mean(losses)
