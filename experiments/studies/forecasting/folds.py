"""Walk-forward folds: consecutive test parts, each after all rows that its methods may learn from.

    fold 1   train train train | validation | test
    fold 2   train train train train | validation | test
    fold 3   train train train train train | validation | test

The window expands: the next fold trains on the rows that the fold before was tested on, as a
forecaster would who trains again at the end of each test part. The test parts do not overlap, and
the last one ends with the series.

Source: L. J. Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of
Forecasting 16 (2000).
"""

from typing import NamedTuple


class Fold(NamedTuple):
    """Consecutive rows of a series.

    Attributes:
      train: slice(0, n), all rows before the validation part.
      validation: the rows before the test part, for choosing hyperparameters.
      test: the rows for reported results.
    """

    train: slice
    validation: slice
    test: slice


def walk_forward(
    rows: int, folds: int, *, test: float = 0.1, validation: float = 0.1
) -> list[Fold]:
    """Returns the folds of a series, the earliest first.

    Args:
      rows: the number of rows of the series.
      folds: the number of folds, 1 or more.
      test: the rows of a test part, as a share of all rows, in (0, 1).
      validation: the rows of a validation part, as a share of all rows, in (0, 1).

    Raises:
      ValueError: an argument is out of range, or a part would be empty.

    Example:
      >>> for fold in walk_forward(100, 2, test=0.2, validation=0.1):
      ...     print(fold.train.stop, fold.validation.stop, fold.test.stop)
      50 60 80
      70 80 100
    """
    if folds < 1:
        raise ValueError(f"folds must be in [1, inf), got {folds}")
    for name, share in (("test", test), ("validation", validation)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be in (0, 1), got {share}")
    test_rows, validation_rows = int(rows * test + 1e-6), int(rows * validation + 1e-6)
    first = rows - folds * test_rows - validation_rows
    if min(test_rows, validation_rows, first) < 1:
        raise ValueError(
            f"folds must leave rows in each part, got {folds} folds of {rows} rows with "
            f"{test_rows} test and {validation_rows} validation rows each, which leaves {first} to "
            "train on"
        )
    found = []
    for number in range(folds):
        start = first + number * test_rows
        middle, end = start + validation_rows, start + validation_rows + test_rows
        found.append(Fold(slice(0, start), slice(start, middle), slice(middle, end)))
    return found
