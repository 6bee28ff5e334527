"""Losses of pairs: which ranks higher, and which belong together.

    margin ranking      max(0, m - y (a - b))                             y = 1: a above b
    hinge embedding     d if y = 1, max(0, m - d) if y = -1
    cosine embedding    1 - cos(a, b) if y = 1, max(0, cos(a, b) - m) if y = -1
    circle              log(1 + sum_n exp(g a_n (s_n - m)) sum_p exp(-g a_p (s_p - 1 + m)))
                        a_p = max(0, 1 + m - s_p), a_n = max(0, s_n + m)

In the last one s are the cosine similarities of one example to those of its class (p) and of
all others (n): those that are furthest from where they should be pull hardest.

Sources: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant
mapping", 2006; Y. Sun et al., "Circle loss", 2020, arXiv:2002.10857.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent.losses import arguments, masking

_EPS = 1e-12  # PyTorch's, added to a squared norm


def margin_ranking_loss(
    first: ArrayLike,
    second: ArrayLike,
    order: ArrayLike,
    *,
    margin: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """What the one that should rank higher lacks to leading by a margin.

    Args:
      first: `f32[...]`.
      second: `f32[...]` of the same shape.
      order: `f32[...]` of the same shape: 1 where `first` should be higher, else -1.
      margin: by how much it should lead, at least 0, in units of the scores.
      where: `bool[...]` of the same shape, what to include; the rest is 0.

    Returns:
      The losses, `f32[...]`. `MarginRankingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, an order that is known is neither -1 nor 1, or the margin is
        negative.

    Example:
      >>> first, second = jnp.array([1.0, 1.0]), jnp.array([0.5, 0.5])
      >>> margin_ranking_loss(first, second, jnp.array([1, -1])).tolist()
      [0.0, 0.5]
    """
    arguments.non_negative("margin", margin)
    arrays = arguments.floats(first=first, second=second, order=order)
    arguments.signs("order", order, where)
    loss = lambda a, b, y: jax.nn.relu(margin - y * (a - b))
    return masking.elementwise(loss, where, *arrays)


def hinge_embedding_loss(
    distances: ArrayLike, labels: ArrayLike, *, margin: float = 1.0, where: ArrayLike | None = None
) -> jax.Array:
    """The distance of pairs that belong together; of others, what it lacks to a margin.

    Args:
      distances: `f32[...]`.
      labels: `f32[...]` of the same shape: 1 for pairs that belong together, else -1.
      margin: how far the others should be apart, at least 0, in units of the distances.
      where: `bool[...]` of the same shape, what to include; the rest is 0.

    Returns:
      The losses, `f32[...]`. `HingeEmbeddingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` not boolean.
      ValueError: shapes differ, a label that is known is neither -1 nor 1, or the margin is
        negative.

    Example:
      >>> hinge_embedding_loss(jnp.array([0.25, 0.25]), jnp.array([1, -1])).tolist()
      [0.25, 0.75]
    """
    arguments.non_negative("margin", margin)
    arrays = arguments.floats(distances=distances, labels=labels)
    arguments.signs("labels", labels, where)
    loss = lambda d, y: jnp.where(y > 0, d, jax.nn.relu(margin - d))
    return masking.elementwise(loss, where, *arrays)


def cosine_embedding_loss(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """How far the cosine of pairs is from 1, or of pairs that are apart, above a margin.

    Args:
      first: `f32[..., coordinates]`. A vector of zeros has cosine 0.
      second: `f32[..., coordinates]`.
      labels: `f32[...]`: 1 for pairs that belong together, else -1.
      margin: the cosine in [-1, 1] up to which the others may be similar.
      where: `bool[...]`, the pairs to include, or `bool[..., coordinates]`.

    Returns:
      The losses, `f32[...]`; 0 where left out. `CosineEmbeddingLoss` in PyTorch.

    Raises:
      TypeError: an argument is not real, or `where` is not boolean.
      ValueError: shapes differ, a label that is known is neither -1 nor 1, or the margin is
        out of range.

    Example:
      >>> first, second = jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0]])
      >>> [round(float(loss), 4) for loss in cosine_embedding_loss(first, second, jnp.array([1]))]
      [0.04]
    """
    arguments.number_in("margin", margin, -1.0, 1.0)
    first, second = arguments.floats(first=first, second=second)
    arguments.last_axis("first", first)
    arguments.same_shape("labels", labels, "first without its last axis", first.shape[:-1])
    left = masking.Rows.of(where, first.shape)
    known = where if where is None or jnp.ndim(where) < first.ndim else left.rows
    arguments.signs("labels", labels, known)
    first, second = left.fill(first), left.fill(second)
    cosine = jnp.sum(_unit(first) * _unit(second), axis=-1)
    losses = jnp.where(jnp.asarray(labels) > 0, 1 - cosine, jax.nn.relu(cosine - margin))
    return masking.keep(left.rows, losses)


def circle_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 80.0,
    margin: float = 0.4,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The circle loss of each example against all others of a batch.

    The weights a_p and a_n are differentiated, as in Keras; the authors hold them constant.

    Args:
      embeddings: `f32[examples, coordinates]`, of any length: cosines are taken here.
      labels: `int[examples]`, any integers.
      gamma: the scale of the similarities, at least 0.
      margin: m in [0, 1]: similarities should be above 1 - m within a class, below m between.
      where: `bool[examples]`, those that take part.

    Returns:
      The losses, `f32[examples]`; 0 for what is left out, is alone in its class, or has no
      other class beside it. Memory goes with the square of examples. `Circle` in Keras, which
      takes unit vectors.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape or a number is not as it must be.

    Example:
      >>> embeddings = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
      >>> losses = circle_loss(embeddings, jnp.array([0, 0, 1]), gamma=1.0)
      >>> [round(float(loss), 4) for loss in losses]
      [0.5459, 0.5459, 0.0]
    """
    arguments.non_negative("gamma", gamma)
    arguments.number_in("margin", margin, 0.0, 1.0)
    (embeddings,) = arguments.floats(embeddings=embeddings)
    if embeddings.ndim != 2:
        shape = embeddings.shape
        raise ValueError(f"embeddings must have shape [examples, coordinates], got {shape}")
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    arguments.same_shape("labels", labels, "embeddings without its last axis", embeddings.shape[:1])
    present = jnp.full(labels.shape, True)
    if where is not None:
        present = arguments.mask(where, labels.shape)

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
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + _EPS)


def _log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """Of each row; one without entries gives any finite number."""
    where = where | ~jnp.any(where, axis=1, keepdims=True)
    return jax.nn.logsumexp(values, axis=1, where=where)
