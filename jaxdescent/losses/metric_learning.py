"""Losses for ranking and metric learning, on pairs of examples.

    margin ranking      max(0, m - y (a - b))                             y = 1: a above b
    hinge embedding     d if y = 1, max(0, m - d) if y = -1
    cosine embedding    1 - cos(a, b) if y = 1, max(0, cos(a, b) - m) if y = -1
    circle              log(1 + sum_n exp(g a_n (s_n - m)) sum_p exp(-g a_p (s_p - 1 + m)))
                        a_p = max(0, 1 + m - s_p), a_n = max(0, s_n + m)

In the circle loss, s_p and s_n are the cosine similarities of one example to the examples of its
class (p) and to all others (n). Similarities far from their target have large weights.

Sources: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant
mapping", 2006; Y. Sun et al., "Circle loss", 2020, arXiv:2002.10857.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments, limits, masking
from jaxdescent.numerics import sizes_to_divide_by


def margin_ranking_loss(
    first: ArrayLike,
    second: ArrayLike,
    order: ArrayLike,
    *,
    margin: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the hinge loss of two scores in their correct order.

    Args:
      first: `f32[...]`.
      second: `f32[...]` of the same shape.
      order: `f32[...]` of the same shape: 1 where `first` should be higher, -1 where lower.
      margin: the required lead of the higher score, at least 0, in units of the scores.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`. `MarginRankingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete order is not -1 or 1, or the margin is negative.

    Example:
      >>> first, second = jnp.array([1.0, 1.0]), jnp.array([0.5, 0.5])
      >>> margin_ranking_loss(first, second, jnp.array([1, -1])).tolist()
      [0.0, 0.5]
    """
    validation.check_non_negative("margin", margin)
    arrays = arguments.as_floats(first=first, second=second, order=order)
    arguments.check_signs("order", order, where)

    def loss(a: jax.Array, b: jax.Array, y: jax.Array) -> jax.Array:
        return jax.nn.relu(margin - y * limits.subtract(a, b))

    return masking.elementwise(loss, where, *arrays)


def hinge_embedding_loss(
    distances: ArrayLike, labels: ArrayLike, *, margin: float = 1.0, where: ArrayLike | None = None
) -> jax.Array:
    """Computes d for similar pairs and max(0, margin - d) for dissimilar pairs.

    Args:
      distances: `f32[...]`.
      labels: `f32[...]` of the same shape: 1 for similar pairs, -1 for dissimilar pairs.
      margin: the required distance of dissimilar pairs, at least 0, in units of the distances.
      where: `bool[...]` of the same shape, the elements to include; the other losses are 0.

    Returns:
      The losses, `f32[...]`. `HingeEmbeddingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete label is not -1 or 1, or the margin is negative.

    Example:
      >>> hinge_embedding_loss(jnp.array([0.25, 0.25]), jnp.array([1, -1])).tolist()
      [0.25, 0.75]
    """
    validation.check_non_negative("margin", margin)
    arrays = arguments.as_floats(distances=distances, labels=labels)
    arguments.check_signs("labels", labels, where)

    def loss(d: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(y > 0, d, jax.nn.relu(margin - d))

    return masking.elementwise(loss, where, *arrays)


def cosine_embedding_loss(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes 1 - cos for similar pairs and max(0, cos - margin) for dissimilar pairs.

    Args:
      first: `f32[..., coordinates]`. The length has no effect. The zero vector has cosine 0 and
        gradient 0; the cosine of an infinite vector is NaN.
      second: `f32[..., coordinates]`.
      labels: `f32[...]`: 1 for similar pairs, -1 for dissimilar pairs.
      margin: the largest cosine of dissimilar pairs that has no loss, in [-1, 1].
      where: `bool[...]`, the pairs to include, or `bool[..., coordinates]`.

    Returns:
      The losses, `f32[...]`; 0 where excluded. `CosineEmbeddingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a concrete label is not -1 or 1, or the margin is out of range.

    Example:
      >>> first, second = jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0]])
      >>> [round(float(loss), 4) for loss in cosine_embedding_loss(first, second, jnp.array([1]))]
      [0.04]
    """
    arguments.check_number_in("margin", margin, -1.0, 1.0)
    first, second = arguments.as_floats(first=first, second=second)
    arguments.last_axis_size("first", first)
    arguments.check_shape("labels", labels, "first without its last axis", first.shape[:-1])
    mask = masking.RowMask.from_where(where, first.shape)
    pairs = where if where is None or jnp.ndim(where) < first.ndim else mask.rows
    arguments.check_signs("labels", labels, pairs)
    first, second = mask.fill(first), mask.fill(second)
    cosine = jnp.sum(_unit(first) * _unit(second), axis=-1)
    losses = jnp.where(jnp.asarray(labels) > 0, 1 - cosine, jax.nn.relu(cosine - margin))
    return masking.keep(mask.rows, losses)


def circle_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 80.0,
    margin: float = 0.4,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Computes the circle loss of each example against all other examples of a batch.

    The weights a_p and a_n are differentiated, as in Keras; the authors hold them constant.

    Args:
      embeddings: `f32[examples, coordinates]`; they need not be normalized. The zero vector has
        similarity 0 with all others, and gradient 0.
      labels: `int[examples]`, the classes.
      gamma: the scale of the similarities, at least 0.
      margin: m in [0, 1]. Similarities should be above 1 - m within a class and below m between
        classes.
      where: `bool[examples]`, the examples to include.

    Returns:
      The losses, `f32[examples]`; 0 if an example is excluded, is the only one of its class, or
      all examples are of its class. Memory grows with the square of the number of examples.
      `Circle` in Keras, which takes unit vectors.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, or a number is out of range.

    Example:
      >>> embeddings = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
      >>> losses = circle_loss(embeddings, jnp.array([0, 0, 1]), gamma=1.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.5459, 0.5459, 0.0]
    """
    validation.check_non_negative("gamma", gamma)
    arguments.check_number_in("margin", margin, 0.0, 1.0)
    (embeddings,) = arguments.as_floats(embeddings=embeddings)
    if embeddings.ndim != 2:
        shape = embeddings.shape
        raise ValueError(f"embeddings must have shape [examples, coordinates], got {shape}")
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    shape = embeddings.shape[:1]
    arguments.check_shape("labels", labels, "embeddings without its last axis", shape)
    present = jnp.full(labels.shape, True)
    if where is not None:
        present = arguments.as_mask(where, labels.shape)

    units = _unit(masking.keep(present[:, None], embeddings))
    similarities = jnp.matmul(units, units.T, precision="highest")
    same = labels[:, None] == labels[None, :]
    others = present[None, :] & ~jnp.eye(labels.size, dtype=bool)
    positive, negative = same & others, ~same & others
    pull = -jax.nn.relu(1 + margin - similarities) * (similarities - 1 + margin)
    push = jax.nn.relu(similarities + margin) * (similarities - margin)
    exponents = _log_sum_exp(gamma * pull, positive) + _log_sum_exp(gamma * push, negative)
    paired = present & jnp.any(positive, axis=1) & jnp.any(negative, axis=1)
    return masking.keep(paired, jax.nn.softplus(exponents))


def _unit(vectors: jax.Array) -> jax.Array:
    """Divides vectors by their lengths, however long or short; the gradient of 0 is 0."""
    nonzero = jnp.any(jnp.abs(vectors) >= jnp.finfo(vectors.dtype).tiny, axis=-1, keepdims=True)
    scaled = masking.keep(nonzero, vectors) / sizes_to_divide_by(vectors, -1)
    squares = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled * jax.lax.rsqrt(jnp.where(nonzero, squares, 1))


def _log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """Computes log sum exp of each row; the result of an empty row is arbitrary but finite."""
    where = where | ~jnp.any(where, axis=1, keepdims=True)
    return jax.nn.logsumexp(values, axis=1, where=where)
