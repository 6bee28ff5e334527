"""The average of the parameters and the learning rate follow their definitions."""

import numpy as np
import pytest

from experiments.studies.shallow_nets import networks


def test_the_average_is_exponential_after_its_first_steps():
    path = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    state = networks.Averaged.init(np.zeros((3,), np.float32), 0.75)
    for x in path:
        state = state.update(x)
    expected = path[:4].mean(0)  # the first four weigh the same
    for x in path[4:]:
        expected = 0.75 * expected + 0.25 * x
    np.testing.assert_allclose(state.mean, expected, rtol=1e-5)
    last = networks.Averaged.init(np.zeros(3, np.float32), 0.0)
    np.testing.assert_array_equal(last.update(path[0]).update(path[1]).mean, path[1])


@pytest.mark.parametrize("decays", [0.0, 1.0])
def test_the_learning_rate_decays_on_a_cosine_or_is_constant(decays):
    steps = np.array([0, 25, 50, 100, 120])
    cosine = (1 + np.cos(np.pi * np.minimum(steps, 100) / 100)) / 2
    rates = [networks.cosine_or_constant(0.1, 100, decays)(step) for step in steps]
    np.testing.assert_allclose(rates, 0.1 * (cosine if decays else np.ones(5)), atol=1e-8)
