"""Skill scores are exact, and their intervals cover the truth as often as they say."""

import itertools

import numpy as np
import pytest

from experiments.studies.forecasting import losses
from experiments.studies.forecasting.skill import block_length, gain, skill


def test_the_skill_is_relative_to_the_naive_loss_over_all_folds():
    found = skill([np.array([1.0, 2.0]), np.array([3.0])], [np.full(2, 2.0), np.full(1, 4.0)], 1)
    assert found.value == 1 - 6 / 8
    assert gain([np.array([1.0, 2.0])], [np.array([2.0, 4.0])], 1).value == 1.5


def test_the_bootstrap_has_the_distribution_of_all_resamples():
    rng = np.random.default_rng(0)
    own, naive = rng.random(4), 1 + rng.random(4)
    assert block_length(4, 1) == 2
    blocks = [np.array([start, (start + 1) % 4]) for start in range(4)]
    every = [
        1 - own[np.concatenate(pair)].sum() / naive[np.concatenate(pair)].sum()
        for pair in itertools.product(blocks, repeat=2)
    ]
    # Levels between the probabilities of the 16 resamples, so that no quantile is at a jump.
    found = skill([own], [naive], 1, level=1 - 2 * 2.5 / 16, resamples=20_000)
    assert found.low == pytest.approx(sorted(every)[2], abs=1e-12)
    assert found.high == pytest.approx(sorted(every)[-3], abs=1e-12)


def test_folds_are_resampled_each_by_itself():
    # Within each fold all losses are equal, so resamples are equal, too.
    found = skill([np.full(50, 1.0), np.full(70, 9.0)], [np.full(50, 2.0), np.full(70, 10.0)], 1)
    assert found.low == pytest.approx(found.high, rel=1e-12)
    assert found.value == pytest.approx(found.low, rel=1e-12)


def test_the_variance_of_the_bootstrap_is_the_sum_of_circular_autocovariances():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=302)
    own = noise[2:] + noise[1:-1] + noise[:-2]
    length, count = block_length(300, 1), 300
    centered = own - own.mean()
    covariances = [np.mean(centered * np.roll(centered, lag)) for lag in range(length)]
    bartlett = covariances[0] + 2 * sum(
        (1 - lag / length) * covariances[lag] for lag in range(1, length)
    )
    blocks = -(-count // length)
    deviation = np.sqrt(bartlett / (blocks * length))
    found = gain([own], [np.zeros(count)], 1, level=0.6827, resamples=40_000)
    assert (found.high - found.low) / 2 == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_intervals_cover_a_skill_of_0_as_often_as_they_say(correlation):
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        shocks = rng.normal(size=(2, 500))
        paths = np.zeros((2, 500))
        for t in range(1, 500):
            paths[:, t] = correlation * paths[:, t - 1] + shocks[:, t]
        found = skill([5 + paths[0]], [5 + paths[1]], 1, resamples=500)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_joint_intervals_are_wider():
    rng = np.random.default_rng(4)
    own, naive = rng.chisquare(1, (2, 400))
    single, joint = (skill([own], [naive], 1, comparisons=n) for n in (1, 20))
    assert joint.low < single.low < single.value < single.high < joint.high


@pytest.mark.parametrize(
    ("count", "horizon", "length"), [(8, 1, 2), (9, 1, 3), (400, 5, 10), (3, 5, 3)]
)
def test_blocks_have_the_cube_root_of_the_origins_and_twice_the_horizon(count, horizon, length):
    assert block_length(count, horizon) == length


def test_losses_equal_explicit_formulas():
    rng = np.random.default_rng(5)
    targets, means, deviations = rng.normal(size=(3, 6, 2))
    deviations = np.exp(deviations)
    found = losses.gaussian_nll(targets, np.stack([means, deviations], axis=-1))
    density = np.exp(-(((targets - means) / deviations) ** 2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(found, -np.log(density / deviations), rtol=1e-9)
    quantiles = rng.normal(size=(6, 2, 7))
    found = losses.quantile_loss(targets, quantiles)
    for i, j in itertools.product(range(6), range(2)):
        pinballs = [
            level * (targets[i, j] - q) if targets[i, j] > q else (1 - level) * (q - targets[i, j])
            for level, q in zip(losses.LEVELS, quantiles[i, j], strict=True)
        ]
        assert found[i, j] == pytest.approx(np.mean(pinballs))
