"""Integer labels, `int[...]` for scores of shape `[..., classes]`.

A label is invalid if it is out of range or its class is masked. A concrete invalid label raises.
In compiled code, the loss of its example is NaN and has gradient 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.losses import arguments
from jaxdescent.losses.masking import RowMask, keep


class LabeledScores(NamedTuple):
    """Checked scores and labels.

    Attributes:
      scores: `f32[..., classes]`, 0 where masked.
      labels: `i32[...]`, in range.
      mask: the rows and classes to include.
      valid: `bool[...]`, True where the label is valid.
    """

    scores: jax.Array
    labels: jax.Array
    mask: RowMask
    valid: jax.Array

    def at_label(self, values: jax.Array) -> jax.Array:
        """Returns the label's entry of each row: `[..., classes]` to `[...]`."""
        return jnp.take_along_axis(values, self.labels[..., None], axis=-1)[..., 0]

    @property
    def others(self) -> jax.Array:
        """The included classes without the label's, `bool[..., classes]`."""
        others = jnp.arange(self.scores.shape[-1], dtype=jnp.int32) != self.labels[..., None]
        return others if self.mask.coordinates is None else others & self.mask.coordinates

    def mask_losses(self, losses: jax.Array) -> jax.Array:
        """Returns the losses of the rows: 0 where masked, NaN where the label is invalid."""
        return keep(self.mask.rows, jnp.where(self.valid, losses, jnp.nan))


def check_labeled_scores(
    name: str, scores: Any, labels: Any, where: Any = None, ignore_index: int | None = None
) -> LabeledScores:
    """Checks scores, labels and their mask.

    Args:
      name: the scores' name, for error messages.
      scores: `f32[..., classes]`.
      labels: `int[...]` in [0, classes).
      where: a mask of the shape of the scores or of the labels.
      ignore_index: a label that masks its row.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, or a concrete label is invalid.
    """
    (scores,) = arguments.as_floats(**{name: scores})
    classes = arguments.last_axis_size(name, scores)
    shape = scores.shape[:-1]
    mask = RowMask.from_where(where, scores.shape)
    integers, valid, ignored = check_labels(
        labels, f"{name} without its last axis", shape, classes, where, ignore_index
    )
    if ignored is not None:
        mask = mask.restrict(~ignored)
    checked = LabeledScores(mask.fill(scores), integers, mask, valid)
    if mask.coordinates is not None:
        checked = checked._replace(valid=valid & checked.at_label(mask.coordinates))
    return checked


class CheckedLabels(NamedTuple):
    """Labels that can be used as indices.

    Attributes:
      integers: `i32[...]`, clipped to [0, classes).
      valid: `bool[...]`, True where the label was in range.
      ignored: `bool[...]`, True where the label is `ignore_index`; or None.
    """

    integers: jax.Array
    valid: jax.Array
    ignored: jax.Array | None


def check_labels(
    labels: Any,
    reference: str,
    shape: tuple[int, ...],
    classes: int,
    where: Any,
    ignore_index: int | None,
) -> CheckedLabels:
    """Checks the labels of rows with a number of classes.

    Args:
      labels: `int[...]` in [0, classes).
      reference: a description of the array that has the labels' shape, for error messages.
      shape: the labels' shape.
      classes: the number of classes.
      where: a mask, whose shape has been checked.
      ignore_index: a label that masks its row.

    Raises:
      TypeError: labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, or a concrete label is invalid.
    """
    integers = jnp.asarray(labels)
    if not jnp.issubdtype(integers.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {integers.dtype}")
    arguments.check_shape("labels", integers, reference, shape)
    ignored = None
    if ignore_index is not None:
        ignored = integers == _as_label(ignore_index, integers)
    _check_values(labels, classes, where, ignore_index)
    if integers.dtype.itemsize < 4:  # too narrow for the number of classes, possibly
        integers = integers.astype(jnp.int32)
    valid = (integers >= 0) & (integers < classes)
    return CheckedLabels(jnp.clip(integers, 0, classes - 1).astype(jnp.int32), valid, ignored)


def _as_label(ignore_index: int, labels: jax.Array) -> Any:
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    info = jnp.iinfo(labels.dtype)
    if not info.min <= ignore_index <= info.max:
        allowed = f"[{info.min}, {info.max}], the range of the labels' dtype {labels.dtype}"
        raise ValueError(f"ignore_index must be in {allowed}, got {ignore_index}")
    return jnp.asarray(ignore_index, labels.dtype)


def _check_values(labels: Any, classes: int, where: Any, ignore_index: int | None) -> None:
    def is_ignored(x: np.ndarray) -> np.ndarray:
        return np.full(x.shape, False) if ignore_index is None else x == ignore_index

    def is_in_range(x: np.ndarray) -> np.ndarray:
        return (x >= 0) & (x < classes) | is_ignored(x)

    def is_included(x: np.ndarray) -> np.ndarray:
        index = np.clip(x, 0, classes - 1)[..., None]
        return np.take_along_axis(np.asarray(where), index, axis=-1)[..., 0] | is_ignored(x)

    rows = where
    if where is not None and np.ndim(where) > np.ndim(labels):
        if isinstance(where, jax.core.Tracer):
            return
        rows = np.any(np.asarray(where), axis=-1)
    allowed = f"in [0, {classes})" + ("" if ignore_index is None else f" or {ignore_index}")
    arguments.check_entries("labels", labels, allowed, is_in_range, rows)
    if rows is not where:
        allowed = "of classes that where includes"
        arguments.check_entries("labels", labels, allowed, is_included, rows)
