"""The normalized hyper-step: fast while hypergradients agree, slow where they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.towers.sign_agreement import (
    BOLD,
    CAREFUL,
    HORIZON,
    HYPER_RATE,
    NEGLIGIBLE,
    scale_by_sign_agreement,
)


def steps(hypergradients, value=0.0):
    """The steps f32[n] on a coordinate that is given hypergradients [n] of a loss."""
    tx = scale_by_sign_agreement()

    def step(state, grad):
        change, state = tx.update(grad, state, value=value)
        return state, change

    return np.asarray(jax.lax.scan(step, tx.init(jnp.zeros(())), hypergradients)[1])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_signal_that_keeps_its_sign_moves_by_the_fast_step(scale):
    moves = steps(jnp.full(200, -scale))
    slow = HYPER_RATE / np.sqrt(1 + np.arange(1, 201) / HORIZON)
    np.testing.assert_allclose(moves[50:], (CAREFUL + slow)[50:], rtol=1e-4)
    assert 0 < moves[0] < 0.2 * CAREFUL + HYPER_RATE  # one signal is not yet agreement


def test_growth_is_bold_until_the_moves_have_changed_the_loss():
    moves = steps(jnp.full(200, -1.0), value=100 / NEGLIGIBLE)
    slow = HYPER_RATE / np.sqrt(1 + np.arange(1, 201) / HORIZON)
    np.testing.assert_allclose(moves[50:99], (BOLD + slow)[50:99], rtol=1e-4)
    np.testing.assert_allclose(moves[100:], (CAREFUL + slow)[100:], rtol=1e-4)


def test_only_growth_is_fast():
    np.testing.assert_allclose(
        steps(jnp.full(60, 2.0))[1:],
        -HYPER_RATE / np.sqrt(1 + np.arange(2, 61) / HORIZON),
        rtol=1e-4,
    )


def test_disagreement_settles():
    moves = np.abs(steps(jax.random.normal(jax.random.key(0), (2000,))))
    assert np.median(moves[1000:]) < 0.3 * HYPER_RATE / np.sqrt(1000 / HORIZON)
    assert np.mean(moves[1000:] > 2 * HYPER_RATE / np.sqrt(1000 / HORIZON)) < 0.05


def test_growing_signals_do_not_step_further_than_steady_ones():
    moves = steps(-1e-20 * 2.0 ** jnp.arange(100), value=1.0)
    assert moves.max() <= BOLD + HYPER_RATE


def test_zeros_before_the_first_signal_move_nothing():
    moves = steps(jnp.zeros(5))
    np.testing.assert_array_equal(moves, 0)
