"""Tests of `select_optimizer`."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.agents.paths import bowl, path, with_extra_args


def test_the_selected_optimizer_is_used():
    several = [optax.sgd(0.1), optax.adam(0.01), optax.sgd(0.1, momentum=0.9)]
    for index, alone in enumerate(several):
        selected, _ = path(
            jd.select_optimizer(several, jnp.asarray(index)), bowl, jnp.array([3.0, -1.0]), 5
        )
        expected, _ = path(with_extra_args(alone), bowl, jnp.array([3.0, -1.0]), 5)
        np.testing.assert_allclose(selected, expected, rtol=1e-6)


def test_agents_of_a_population_use_different_optimizers():
    def mixed(index):
        return jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], index)

    groups = {"index": jnp.array([0, 1, 1, 0])}
    result = jd.minimize(
        bowl,
        mixed,
        init_params=jnp.ones((4, 1)),
        hyperparams=groups,
        steps=1,
        steps_per_rung=1,
        rule=jd.pruning.no_pruning(),
    )
    np.testing.assert_allclose(result.population.params[:, 0], [0.8, 0.6, 0.6, 0.8], rtol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"index must be a number in \[0, 1\], got 2"):
        jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], 2)
    with pytest.raises(ValueError, match=r"index must be an integer in \[0, 1\], got 0.5"):
        jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], 0.5)
    with pytest.raises(ValueError, match="optimizers must be at least one"):
        jd.select_optimizer([], 0)
