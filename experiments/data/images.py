"""Labeled images from files: checks and divisions that the image data sets share."""

from collections.abc import Sequence

import numpy as np

from experiments.data.dataset import Split
from experiments.data.files import File


def labeled(
    file: File,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    shapes: Sequence[tuple[int, ...]],
    classes: int,
    labels_file: File | None = None,
    part: str = "",
) -> Split:
    """Checks images and labels.

    Args:
      file: the file of the images.
      images: uint8[n, height, width] or uint8[n, height, width, channels].
      labels: integers [n] or [n, 1], from 0.
      shapes: the allowed shapes of an image.
      classes: the number of classes.
      labels_file: the file of the labels, if it is another one.
      part: the name of the arrays within the file, for error messages.

    Returns:
      uint8[n, height, width, channels] and i32[n].

    Raises:
      DataError: a dtype, a shape, a length or a label is invalid.
    """
    labels_file = labels_file or file
    prefix = f"{part} " if part else ""
    if images.dtype != np.uint8 or images.shape[1:] not in shapes:
        allowed = " or ".join(
            f"uint8 of shape {('n', *shape)}".replace("'", "") for shape in shapes
        )
        raise file.error(
            f"{prefix}images must be {allowed}, got {images.dtype} of shape {images.shape}"
        )
    if not len(images):
        raise file.error(f"{prefix}images must be at least one, got none")
    flat = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if not flat or not np.issubdtype(labels.dtype, np.integer):
        raise labels_file.error(
            f"{prefix}labels must be integers of shape (n,) or (n, 1), got {labels.dtype} "
            f"of shape {labels.shape}"
        )
    if len(labels) != len(images):
        raise labels_file.error(
            f"{prefix}labels must be as many as the {len(images)} images"
            f"{'' if labels_file == file else f' of {file.path.name}'}, got {len(labels)}"
        )
    labels = labels.reshape(-1)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise labels_file.error(
            f"{prefix}labels must be in [0, {classes - 1}], got {labels[wrong[0]]} "
            f"at position {wrong[0]}"
        )
    if images.ndim == 3:
        images = images[..., None]
    return Split(images, labels.astype(np.int32))


def select(split: Split, index: np.ndarray | slice) -> Split:
    """Returns the examples at an index."""
    return Split(split.inputs[index], split.targets[index])


def last_of_each_class(labels: np.ndarray, divisor: int) -> np.ndarray:
    """Returns a mask of the last 1 / `divisor` of each class.

    The selection uses no random numbers, so that it never changes.

    Example:
      >>> last_of_each_class(np.array([0, 1, 0, 1, 1, 1]), 2)
      array([False, False,  True, False,  True,  True])
    """
    marked = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        marked[members[len(members) - len(members) // divisor :]] = True
    return marked
