"""A check that nothing depends on rows that are later than it claims.

A *claim* says for each entry of an array the last row of the series that it may use. The check
computes the arrays again from series whose rows after a cut have been changed: an entry that may
use rows up to the cut only must be equal to the bit. The rows after the cut are raised, lowered and
disturbed at random, so that a number that is computed from them changes at least once, also a
boolean such as "tomorrow is higher". In the same way, the rows before a part are changed, which its
examples must not use.

The check finds features that look ahead, splits that are shuffled before or after the windows are
made, normalizations and smoothing constants that use all rows, centered averages and filled gaps.
It cannot find

- a choice made with test results, such as a learning rate: that is not computed from rows here;
- values of the series that were revised later, or that were not yet published at their date;
- an array that is fed but not claimed.

A function that ignores the series would pass. An entry with `uses_last` must therefore change when
its last row changes: then a target is in the future of its inputs, and not a value that they
contain.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.data import Series
from experiments.studies.forecasting.examples import PARTS, Examples
from experiments.studies.forecasting.folds import Fold


class LeakError(Exception):
    """An entry depends on a row that it may not use; the message names both."""


class Claim(NamedTuple):
    """An array, and the rows that its entries may use.

    Attributes:
      values: [n, ...].
      rows: i64[n], the last row that an entry may use.
      first: the first row that the entries may use.
      uses_last: True if an entry must depend on its last row.
    """

    values: np.ndarray
    rows: np.ndarray
    first: int = 0
    uses_last: bool = True


Build = Callable[[Series], Mapping[str, Claim]]
"""Called as `build(series)`; returns the claims by name."""


def claims_of(examples: Examples, fold: Fold) -> dict[str, Claim]:
    """Returns the claims of a fold's examples: inputs, targets and normalization.

    Raises:
      LeakError: an example's target is outside of the rows of its part.
    """
    found, dataset = {}, examples.dataset
    for number, (title, rows) in enumerate(zip(PARTS, fold, strict=True)):
        inputs, targets = examples.parts[number]
        origins = examples.origins[number]
        found[f"{title} inputs"] = Claim(inputs, origins, rows.start)
        for column, horizon in enumerate(examples.horizons):
            ends = origins + horizon
            if origins.min() < rows.start or ends.max() >= rows.stop:
                raise LeakError(
                    f"{title} examples must use the rows {rows.start} to {rows.stop - 1}, got "
                    f"origins from {origins.min()} and targets up to {ends.max()}"
                )
            name = f"{title} targets at horizon {horizon}"
            found[name] = Claim(targets[:, column], ends, rows.start)
    moments = [dataset.mean, dataset.std, dataset.target_mean, dataset.target_std]
    found["normalization"] = Claim(
        np.concatenate(moments)[None], np.array([fold.train.stop - 1]), fold.train.start
    )
    return found


def check_no_leak(build: Build, series: Series, cuts: Sequence[int], *, seed: int = 0) -> int:
    """Checks that no entry depends on a row that it may not use.

    Args:
      build: returns the claims for a series.
      series: the series.
      cuts: rows after which the series is changed, in [0, rows - 2].
      seed: seed of the random disturbance.

    Returns:
      The number of comparisons of an entry with its value for a changed series.

    Raises:
      LeakError: an entry depends on a row that it may not use, or does not depend on its last row.
      ValueError: a cut is out of range.

    Example:
      >>> from experiments.data import prices
      >>> from experiments.studies.forecasting.examples import log_prices
      >>> def honest(series):
      ...     returns = np.diff(log_prices(series))
      ...     return {"returns": Claim(returns, 1 + np.arange(len(returns)))}
      >>> check_no_leak(honest, prices.goog(), [500, 800])
      3900
      >>> def centered(series):
      ...     returns = np.convolve(np.diff(log_prices(series)), np.ones(3) / 3, "same")
      ...     return {"smoothed returns": Claim(returns, 1 + np.arange(len(returns)))}
      >>> check_no_leak(centered, prices.goog(), [500, 800])
      Traceback (most recent call last):
          ...
      experiments.studies.forecasting.leaks.LeakError: smoothed returns of row 500 must not depend \
    on rows from 501 on, got another value after a change of these rows
    """
    rows = len(series.values)
    for cut in cuts:
        if not 0 <= cut <= rows - 2:
            raise ValueError(f"cuts must be in [0, {rows - 2}], got {cut}")
    original = build(series)
    count = 0
    for cut in cuts:
        moved = {name: np.zeros(len(claim.rows), bool) for name, claim in original.items()}
        for changed in _changed(build, series, slice(cut + 1, None), seed):
            for name, claim in original.items():
                moved[name] |= _differs(name, claim, changed)
                known = claim.rows <= cut
                count += int(known.sum())
                _refuse(name, claim.rows[known & moved[name]], f"rows from {cut + 1} on")
        for name, claim in original.items():
            if claim.uses_last and not moved[name][claim.rows == cut + 1].all():
                raise LeakError(
                    f"{name} of row {cut + 1} must depend on that row, got the same value after a "
                    "change of it"
                )
    for first in sorted({claim.first for claim in original.values()} - {0}):
        for changed in _changed(build, series, slice(0, first), seed):
            for name, claim in original.items():
                if claim.first == first:
                    moved_rows = claim.rows[_differs(name, claim, changed)]
                    count += len(claim.rows)
                    _refuse(name, moved_rows, f"rows before {first}")
    return count


def _changed(build: Build, series: Series, rows: slice, seed: int) -> Iterator[Mapping[str, Claim]]:
    """Yields the claims for the series with these rows raised, lowered and disturbed."""
    values = series.values[rows]
    days = np.minimum(1 + np.arange(len(values)), 50)[:, None]
    noise = np.random.default_rng(seed).normal(size=values.shape)
    for exponents in (0.1 * days, -0.1 * days, 0.1 * noise):
        shaken = series.values.copy()
        shaken[rows] = values * np.exp(exponents)
        yield build(series._replace(values=shaken))


def _differs(name: str, claim: Claim, changed: Mapping[str, Claim]) -> np.ndarray:
    """Returns the entries that are not equal to the bit, bool[n]."""
    one, other = claim.values, changed[name].values
    if one.shape != other.shape:
        raise LeakError(
            f"{name} must have as many entries for every series, got the shapes {one.shape} and "
            f"{other.shape}; choose examples by their rows, not by their values"
        )
    differs = (one != other) & ~(np.isnan(one) & np.isnan(other))
    return differs.reshape(len(one), -1).any(1)


def _refuse(name: str, rows: np.ndarray, others: str) -> None:
    if len(rows):
        raise LeakError(
            f"{name} of row {rows[0]} must not depend on {others}, got another value after a "
            "change of these rows"
        )
