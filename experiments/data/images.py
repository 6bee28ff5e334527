"""Labelled images from files: the checks and divisions that the image sets share."""

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
    """Images with their labels, after a look at both.

    Args:
      file: where the images are from.
      images: uint8[n, height, width] or uint8[n, height, width, channels].
      labels: integers [n] or [n, 1], from 0.
      shapes: what an image's shape may be.
      classes: how many labels there are.
      labels_file: where the labels are from, if from elsewhere.
      part: what the arrays are called within the file, for the messages.

    Returns:
      uint8[n, height, width, channels] and i32[n].

    Raises:
      DataError: the arrays are not what they should be.
    """
    labels_file = labels_file or file
    what = f"{part} " if part else ""
    if images.dtype != np.uint8 or images.shape[1:] not in shapes:
        allowed = " or ".join(
            f"uint8 of shape {('n', *shape)}".replace("'", "") for shape in shapes
        )
        raise file.error(
            f"{what}images must be {allowed}, got {images.dtype} of shape {images.shape}"
        )
    if not len(images):
        raise file.error(f"{what}images must be at least one, got none")
    flat = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if not flat or not np.issubdtype(labels.dtype, np.integer):
        raise labels_file.error(
            f"{what}labels must be integers of shape (n,) or (n, 1), got {labels.dtype} "
            f"of shape {labels.shape}"
        )
    if len(labels) != len(images):
        raise labels_file.error(
            f"{what}labels must be as many as the {len(images)} images"
            f"{'' if labels_file == file else f' of {file.path.name}'}, got {len(labels)}"
        )
    labels = labels.reshape(-1)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise labels_file.error(
            f"{what}labels must be in [0, {classes - 1}], got {labels[wrong[0]]} "
            f"at position {wrong[0]}"
        )
    if images.ndim == 3:
        images = images[..., None]
    return Split(images, labels.astype(np.int32))


def taken(split: Split, index: np.ndarray | slice) -> Split:
    """The examples at an index."""
    return Split(split.inputs[index], split.targets[index])


def last_of_each_class(labels: np.ndarray, divisor: int) -> np.ndarray:
    """Marks one in `divisor` examples of each class, the last ones in their order.

    It needs no random numbers, so that the choice stays the same for ever.

    Example:
      >>> last_of_each_class(np.array([0, 1, 0, 1, 1, 1]), 2)
      array([False, False,  True, False,  True,  True])
    """
    marked = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        marked[members[len(members) - len(members) // divisor :]] = True
    return marked
