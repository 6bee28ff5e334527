"""The check for leaks catches every kind of cheating that it claims to catch."""

import numpy as np
import pytest

from experiments.studies.forecasting import evaluation
from experiments.studies.forecasting.examples import log_prices, make_examples
from experiments.studies.forecasting.folds import walk_forward
from experiments.studies.forecasting.leaks import Claim, LeakError, check_no_leak, claims_of
from experiments.studies.forecasting.references import holt_states
from tests.experiments.studies.forecasting.test_folds import drawn

SERIES = drawn(200)
(FOLD,) = walk_forward(200, 1, test=0.3, validation=0.2)  # borders at 100 and 140
CUTS = (60, 99, 120, 139, 170)


def honest(series):
    """Returns the examples of the study."""
    return make_examples(series, FOLD, window=4, horizons=(1, 3))


def check(make):
    return check_no_leak(lambda series: claims_of(make(series), FOLD), SERIES, CUTS)


def with_parts(examples, change):
    """Returns examples with changed training, validation and test parts."""
    dataset = examples.dataset
    parts = [change(n, *examples.parts[n], examples.origins[n]) for n in range(3)]
    names = ("train", "validation", "test")
    changed = {
        name: examples.parts[n]._replace(inputs=inputs, targets=targets)
        for n, (name, (inputs, targets, _)) in enumerate(zip(names, parts, strict=True))
    }
    origins = tuple(each[2] for each in parts)
    return examples._replace(dataset=dataset._replace(**changed), origins=origins)


def feature_of_tomorrow(series):
    """Replaces a feature by the next day's return."""
    returns = np.append(np.diff(log_prices(series)), 0)

    def change(_, inputs, targets, origins):
        inputs = inputs.copy()
        inputs[:, -1, 1] = returns[origins]
        return inputs, targets, origins

    return with_parts(honest(series), change)


def tomorrow_is_higher(series):
    """Replaces a feature by a boolean that is computed from the future."""
    prices = log_prices(series)

    def change(_, inputs, targets, origins):
        inputs = inputs.copy()
        inputs[:, -1, 1] = prices[origins + 1] > prices[origins]
        return inputs, targets, origins

    return with_parts(honest(series), change)


def centered_average(series):
    """Smooths the inputs with the day after, before the windows are made."""
    values = series.values.astype(np.float64)
    smoothed = (values[:-2] + values[1:-1] + values[2:]) / 3
    values = np.concatenate([values[:1], smoothed, values[-1:]])
    return honest(series._replace(values=values.astype(np.float32)))


def normalized_over_everything(series):
    """Takes mean and standard deviation from all rows."""
    examples = honest(series)
    returns = np.diff(log_prices(series))
    mean = examples.dataset.mean.copy()
    mean[0] = returns.mean()
    return examples._replace(dataset=examples.dataset._replace(mean=mean))


def scaled_by_the_highest_price(series):
    """Divides the inputs by a number of the whole series, in place of a normalization."""
    highest = np.log(series.values[:, 1].max())
    return with_parts(honest(series), lambda _, i, t, origins: (i / highest, t, origins))


def shuffled(series):
    """Deals the examples to the parts at random, with true origins."""
    examples = honest(series)
    inputs, targets = examples.dataset.whole()
    origins = np.concatenate(examples.origins)
    order = np.random.default_rng(0).permutation(len(origins))
    borders = np.cumsum([len(each) for each in examples.origins])[:-1]
    dealt = [np.split(each[order], borders) for each in (inputs, targets, origins)]
    return with_parts(examples, lambda n, *_: tuple(each[n] for each in dealt))


def shuffled_in_secret(series):
    """Deals the examples at random, and claims the origins of the parts in order."""
    examples = honest(series)
    return shuffled(series)._replace(origins=examples.origins)


def target_of_today(series):
    """Forecasts the last return of the window, which the inputs contain."""

    def change(_, inputs, targets, origins):
        return inputs, np.stack([inputs[:, -1, 0], targets[:, 1]], axis=1), origins

    return with_parts(honest(series), change)


def windows_across_the_border(series):
    """Begins each part's first window before the part's first row."""
    returns = np.diff(log_prices(series))

    def change(number, inputs, targets, origins):
        inputs = inputs.copy()
        inputs[:, 0, 0] = returns[np.maximum(origins - 5, 0)]
        return inputs, targets, origins

    return with_parts(honest(series), change)


def cached(series):
    """Ignores the series that it is given."""
    return honest(SERIES)


def chosen_by_value(series):
    """Keeps only days that the next day follows with a gain."""

    def change(_, inputs, targets, origins):
        keep = targets[:, 0] > 0
        return inputs[keep], targets[keep], origins[keep]

    return with_parts(honest(series), change)


def test_honest_examples_pass():
    # 5 cuts and 2 borders, 3 changes each; the first claims 9 arrays and the normalization.
    claims = claims_of(honest(SERIES), FOLD)
    known = sum(3 * int((claim.rows <= cut).sum()) for claim in claims.values() for cut in CUTS)
    borders = sum(3 * len(claim.rows) for claim in claims.values() if claim.first)
    assert check(honest) == known + borders


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (feature_of_tomorrow, r"train inputs of row 60 must not depend on rows from 61 on"),
        (tomorrow_is_higher, r"train inputs of row 60 must not depend on rows from 61 on"),
        (centered_average, r"train inputs of row 60 must not depend on rows from 61 on"),
        (normalized_over_everything, r"normalization of row 99 must not depend on rows from 1"),
        (scaled_by_the_highest_price, r"train inputs of row 4 must not depend on rows from"),
        (shuffled, r"train examples must use the rows 0 to 99, got origins from 4 and targets up"),
        (shuffled_in_secret, r"train inputs of row \d+ must not depend on rows from 61 on"),
        (target_of_today, r"train targets at horizon 1 of row 61 must depend on that row"),
        (windows_across_the_border, r"validation inputs of row 104 must not depend on rows before"),
        (cached, r"train inputs of row 61 must depend on that row, got the same value"),
        (chosen_by_value, r"must have as many entries for every series"),
    ],
)
def test_a_cheat_is_caught(cheat, message):
    with pytest.raises(LeakError, match=message):
        check(cheat)


def test_smoothing_constants_of_all_rows_are_caught():
    origins = 144 + np.arange(50)

    def fitted_to(rows):
        def build(series):
            prices = log_prices(series)
            level = 0.5 + prices[rows].std() / 10
            return {"smoothing": Claim(holt_states(prices, level, 0.0)[0, origins], origins)}

        return build

    assert check_no_leak(fitted_to(slice(0, 100)), SERIES, [160])
    with pytest.raises(LeakError, match="smoothing of row 144 must not depend on rows from 161"):
        check_no_leak(fitted_to(slice(None)), SERIES, [160])


def test_the_study_refuses_to_run_with_a_leak(monkeypatch):
    series, (fold,) = drawn(400), walk_forward(400, 1)
    assert evaluation.check(series, fold) > 0
    references = evaluation.all_references

    def cheating(series, *arguments):
        found = references(series, *arguments)
        found["squared error"]["drift"] = np.full((15, 2), log_prices(series)[-1])
        return found

    monkeypatch.setattr(evaluation, "all_references", cheating)
    with pytest.raises(LeakError, match=r"drift \(squared error\) of row 380 must not depend on"):
        evaluation.check(series, fold)


def test_cuts_outside_of_the_series_are_refused():
    with pytest.raises(ValueError, match=r"cuts must be in \[0, 198\], got 199"):
        check_no_leak(lambda series: {}, SERIES, [199])
