"""Data sets by name.

The module of a loader is imported when its data is loaded, so that listing names is fast:
importing scikit-learn takes a second.
"""

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.data.medmnist import CLASSES as _MEDMNIST

if TYPE_CHECKING:
    from experiments.data.corpus import Corpus
    from experiments.data.dataset import Dataset
    from experiments.data.series import Series


class Entry(NamedTuple):
    """A data set of the registry.

    Attributes:
      kind: "classification", "regression" or "stream" (a `Dataset`, in chronological order for a
        stream), "text" (a `Corpus`) or "series" (a `Series`).
      loader: the module in this folder and its function.
      options: the keywords that `load` accepts and passes on.
      needs_files: whether the data set is read from the data folder.
      arguments: further keyword arguments of the function.
    """

    kind: str
    loader: str
    options: tuple[str, ...] = ()
    needs_files: bool = False
    arguments: Mapping[str, Any] = {}


_TEXT = ("tokenizer", "vocabulary_size", "validation", "test")
_GENERATED = ("n", "noise", "seed")

ENTRIES: dict[str, Entry] = {
    "digits": Entry("classification", "digits.load"),
    "breast_cancer": Entry("classification", "tables.breast_cancer"),
    "wine": Entry("classification", "tables.wine"),
    "diabetes": Entry("regression", "tables.diabetes"),
    "moons": Entry("classification", "generators.moons", _GENERATED),
    "circles": Entry("classification", "generators.circles", (*_GENERATED, "factor")),
    **{
        name: Entry("classification", f"generators.{name}", (*_GENERATED, "features", "classes"))
        for name in ("blobs", "gaussian_quantiles", "classification")
    },
    "friedman1": Entry("regression", "generators.friedman1", (*_GENERATED, "features")),
    "friedman2": Entry("regression", "generators.friedman2", _GENERATED),
    "friedman3": Entry("regression", "generators.friedman3", _GENERATED),
    "regression": Entry(
        "regression", "generators.regression", (*_GENERATED, "features", "informative")
    ),
    "mnist": Entry("classification", "mnist.load", needs_files=True),
    "cifar10": Entry("classification", "cifar10.load", needs_files=True),
    "cifar10_subset": Entry("classification", "cifar10.load_subset", needs_files=True),
    **{
        name: Entry("classification", "medmnist.load", ("size",), True, {"name": name})
        for name in _MEDMNIST
    },
    "elec2": Entry("stream", "elec2.load", needs_files=True),
    "python_topics": Entry("text", "corpus.python_topics", _TEXT),
    "tinyshakespeare": Entry("text", "corpus.tinyshakespeare", _TEXT, needs_files=True),
    "war_and_peace": Entry("text", "corpus.war_and_peace", _TEXT, needs_files=True),
    "goog": Entry("series", "prices.goog"),
    "sp500": Entry("series", "prices.sp500", needs_files=True),
}

NAMES = tuple(ENTRIES)
KINDS = ("classification", "regression", "stream", "text", "series")


def entry(name: str) -> Entry:
    """Returns the description of a data set without loading it.

    Raises:
      ValueError: the name is unknown.

    Example:
      >>> entry("mnist").kind, entry("mnist").needs_files
      ('classification', True)
    """
    if name in ENTRIES:
        return ENTRIES[name]
    near = difflib.get_close_matches(str(name), NAMES, n=1)
    hint = f"did you mean {near[0]}? The names are" if near else "the names are"
    raise ValueError(f"unknown data set {name!r}; {hint} {', '.join(NAMES)}")


def load(
    name: str, data_dir: str | Path | None = None, **options: Any
) -> "Dataset | Corpus | Series":
    """Loads a data set by name.

    Args:
      name: one of `NAMES`.
      data_dir: the folder of data files; None for the environment's `JAXDESCENT_DATA`. Bundled data
        sets do not need it.
      **options: options of the loader, listed in `entry(name).options`.

    Raises:
      DataError: the data is missing or invalid.
      ValueError: the name or an option is unknown, or an option is out of range.

    Example:
      >>> load("moons", n=100).train.inputs.shape
      (60, 2)
    """
    found = entry(name)
    unknown = sorted(set(options) - set(found.options))
    if unknown:
        raise ValueError(
            f"{name} takes {', '.join(found.options) or 'no options'}, got {unknown[0]}"
        )
    module, function = found.loader.split(".")
    loader = getattr(importlib.import_module(f"experiments.data.{module}"), function)
    folder = {"data_dir": data_dir} if found.needs_files else {}
    return loader(**found.arguments, **folder, **options)
