"""The tanh network has the published layers, and its loss equals NumPy's."""

import jax
import numpy as np
import pytest

from experiments.models import tanh_network


def test_the_network_has_the_published_layers():
    params = tanh_network.init_params(jax.random.key(0), (3072, 200, 200, 10))
    shapes = [layer["kernel"].shape for layer in params]
    assert shapes == [(3072, 200), (200, 200), (200, 10)]
    for layer in params:
        bound = 1 / np.sqrt(len(layer["kernel"]))
        assert np.abs(layer["kernel"]).max() == pytest.approx(bound, rel=0.01)
        assert np.abs(layer["bias"]).max() == 0


def test_the_loss_is_half_the_squared_error():
    params = tanh_network.init_params(jax.random.key(1), (4, 3, 2))
    first, second = jax.tree.map(np.asarray, params)
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    outputs = np.tanh(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]
    expected = np.mean(np.sum((outputs - targets) ** 2, 1)) / 2
    batch = x.astype(np.float32), targets.astype(np.float32)
    assert float(tanh_network.squared_error(params, batch)) == pytest.approx(expected, rel=1e-5)
