"""MedMNIST: small medical images with labels, in published training, validation and test parts.

Each data set is an npz archive with `train_images`, `train_labels` and the same for `val_` and
`test_`. Supported are the 2D data sets with one label per image; ChestMNIST has fourteen.

Source: J. Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D
biomedical image classification", Scientific Data 10, 2023.
"""

import os

from experiments.data import files, images
from experiments.data.dataset import Dataset

CLASSES = {
    "pathmnist": 9,
    "dermamnist": 7,
    "octmnist": 4,
    "pneumoniamnist": 2,
    "retinamnist": 5,
    "breastmnist": 2,
    "bloodmnist": 8,
    "tissuemnist": 8,
    "organamnist": 11,
    "organcmnist": 11,
    "organsmnist": 11,
}
SIZES = (28, 64, 128, 224)


def load(name: str, data_dir: str | os.PathLike[str] | None = None, *, size: int = 28) -> Dataset:
    """Loads a data set from its archive: `NAME.npz`, or `NAME_SIZE.npz` for larger images.

    Images are uint8[n, size, size, 1] or uint8[n, size, size, 3] from 0 to 255, labels
    i32[n] from 0. The parts are the published ones.

    Args:
      name: one of `CLASSES`, such as "pneumoniamnist".
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.
      size: pixels per side, 28, 64, 128 or 224.

    Raises:
      DataError: the file is missing or invalid.
      ValueError: the name or the size is unknown.
    """
    if name not in CLASSES:
        raise ValueError(f"name must be one of {', '.join(CLASSES)}, got {name!r}")
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(str, SIZES))}, got {size!r}")
    license = "CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0"
    source = f"MedMNIST v2, {name} (J. Yang et al., 2023; medmnist.com; {license})"
    file = files.find(data_dir, f"{name}.npz" if size == 28 else f"{name}_{size}.npz", source)
    prefixes = ("train", "val", "test")
    keys = [f"{prefix}_{kind}" for prefix in prefixes for kind in ("images", "labels")]
    arrays = file.arrays(keys)
    train, validation, test = (
        images.labeled(
            file,
            arrays[f"{prefix}_images"],
            arrays[f"{prefix}_labels"],
            shapes=[(size, size), (size, size, 3)],
            classes=CLASSES[name],
            part=prefix,
        )
        for prefix in prefixes
    )
    channels = {part.inputs.shape[-1] for part in (train, validation, test)}
    if len(channels) > 1:
        raise file.error("its three parts must all be gray or all be colored")
    return Dataset.from_parts(name, (train, validation, test), CLASSES[name], source)
