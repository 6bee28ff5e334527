"""Integer labels, `int[...]` for scores of shape `[..., classes]`.

A label out of range, or whose class is masked, is an error where it can be seen. Inside
compiled code it cannot: the loss of its example is then NaN, without a gradient.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.losses import arguments
from jaxdescent.losses.masking import Rows, keep


class LabeledScores(NamedTuple):
    """Scores and labels, checked, safe to compute with.

    Attributes:
      scores: `f32[..., classes]`, 0 where masked.
      labels: `i32[...]`, in range.
      left: what is not masked.
      sound: `bool[...]`, the rows whose label is as it must be.
    """

    scores: jax.Array
    labels: jax.Array
    left: Rows
    sound: jax.Array

    def of_label(self, values: jax.Array) -> jax.Array:
        """The entry of `[..., classes]` that belongs to the label, `[...]`."""
        return jnp.take_along_axis(values, self.labels[..., None], axis=-1)[..., 0]

    @property
    def others(self) -> jax.Array:
        """The classes that are left and not the label's, `bool[..., classes]`."""
        others = jnp.arange(self.scores.shape[-1], dtype=jnp.int32) != self.labels[..., None]
        return others if self.left.coordinates is None else others & self.left.coordinates

    def losses(self, losses: jax.Array) -> jax.Array:
        """The losses of the rows: 0 where masked, NaN where the label is not sound."""
        return keep(self.left.rows, jnp.where(self.sound, losses, jnp.nan))


def labeled(
    name: str, scores: Any, labels: Any, where: Any = None, ignore_index: int | None = None
) -> LabeledScores:
    """Checks scores and labels.

    Args:
      name: what the caller calls the scores.
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      where: a mask of the shape of either.
      ignore_index: a label that masks its row.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, is not as it must be.
    """
    (scores,) = arguments.floats(**{name: scores})
    classes = arguments.last_axis(name, scores)
    shape = scores.shape[:-1]
    left = Rows.of(where, scores.shape)
    integers, sound, ignored = checked(
        labels, f"{name} without its last axis", shape, classes, where, ignore_index
    )
    if ignored is not None:
        left = left.only(~ignored)
    safe = LabeledScores(left.fill(scores), integers, left, sound)
    if left.coordinates is not None:
        safe = safe._replace(sound=sound & safe.of_label(left.coordinates))
    return safe


class Checked(NamedTuple):
    """Labels, checked.

    Attributes:
      integers: `i32[...]`, in range.
      sound: `bool[...]`, which were in range.
      ignored: `bool[...]`, which are the one to ignore, or None.
    """

    integers: jax.Array
    sound: jax.Array
    ignored: jax.Array | None


def checked(
    labels: Any,
    reference: str,
    shape: tuple[int, ...],
    classes: int,
    where: Any,
    ignore_index: int | None,
) -> Checked:
    """Checks labels for what they belong to, of a shape and with a number of classes.

    The shape of `where` has been checked.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape, or a label that is known, is not as it must be.
    """
    integers = jnp.asarray(labels)
    if not jnp.issubdtype(integers.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {integers.dtype}")
    arguments.same_shape("labels", integers, reference, shape)
    ignored = None if ignore_index is None else integers == _ignored(ignore_index, integers)
    _check(labels, classes, where, ignore_index)
    if integers.dtype.itemsize < 4:  # may not hold the number of classes
        integers = integers.astype(jnp.int32)
    sound = (integers >= 0) & (integers < classes)
    return Checked(jnp.clip(integers, 0, classes - 1).astype(jnp.int32), sound, ignored)


def _ignored(ignore_index: int, labels: jax.Array) -> Any:
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    info = jnp.iinfo(labels.dtype)
    if not info.min <= ignore_index <= info.max:
        allowed = f"[{info.min}, {info.max}], what labels of dtype {labels.dtype} can be"
        raise ValueError(f"ignore_index must be in {allowed}, got {ignore_index}")
    return jnp.asarray(ignore_index, labels.dtype)


def _check(labels: Any, classes: int, where: Any, ignore_index: int | None) -> None:
    ignored = lambda x: np.full(x.shape, False) if ignore_index is None else x == ignore_index
    in_range = lambda x: (x >= 0) & (x < classes)
    rows = where
    if where is not None and np.ndim(where) > np.ndim(labels):
        if isinstance(where, jax.core.Tracer):
            return
        rows = np.any(np.asarray(where), axis=-1)
    allowed = f"in [0, {classes})" + ("" if ignore_index is None else f" or {ignore_index}")
    arguments.contents("labels", labels, allowed, lambda x: in_range(x) | ignored(x), rows)
    if rows is not where:
        included = lambda x: np.take_along_axis(
            np.asarray(where), np.clip(x, 0, classes - 1)[..., None], axis=-1
        )[..., 0]
        allowed = "of classes that where includes"
        arguments.contents("labels", labels, allowed, lambda x: included(x) | ignored(x), rows)
