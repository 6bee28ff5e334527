"""The numbers of `jaxdescent/agents/THEORY.md`, and the rule that is derived there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.agents.pruning.selection_risk import share_to_keep

CHANCE = jd.pruning.prob_best_pruned
CASES = [(0.5, 64, 16), (0.8, 16, 1), (0.8, 16, 4), (0.95, 128, 4), (-0.5, 10, 3), (0.9999, 512, 1)]


@pytest.mark.parametrize(("r", "agents", "kept"), CASES)
def test_the_chance_is_that_of_a_simulation(r, agents, kept):
    rng = np.random.default_rng(0)
    late = rng.normal(size=(20_000, agents))
    early = r * late + np.sqrt(1 - r * r) * rng.normal(size=late.shape)
    winner = early[np.arange(len(late)), late.argmin(1)]
    dropped = np.mean(np.sum(early < winner[:, None], axis=1) >= kept)
    error = np.sqrt(dropped * (1 - dropped) / 20_000)
    np.testing.assert_allclose(CHANCE(r, agents, kept), dropped, atol=4 * error)


@pytest.mark.parametrize(("agents", "kept"), [(2, 1), (100, 25), (1024, 1), (1024, 1000)])
def test_without_correlation_those_kept_are_random(agents, kept):
    np.testing.assert_allclose(CHANCE(0.0, agents, kept), 1 - kept / agents, atol=1e-6)


def test_two_agents_have_a_closed_form():
    # Two agents in both orders: their differences have correlation r, and quadrants are arcs.
    for r in (-0.7, 0.3, 0.9):
        np.testing.assert_allclose(CHANCE(r, 2, 1), np.arccos(r) / np.pi, atol=2e-5)


def test_the_ends():
    assert CHANCE(1.0, 9, 1) == CHANCE(0.3, 9, 9) == CHANCE(-1.0, 1, 1) == 0.0
    assert CHANCE(-1.0, 9, 8) == 1.0


def test_the_numbers_of_the_theory_page():
    np.testing.assert_allclose(CHANCE(0.9, 1024, 256), 4e-6, atol=1e-6)
    np.testing.assert_allclose(CHANCE(0.5, 64, 16), 0.287, atol=1e-3)
    np.testing.assert_allclose(CHANCE(0.8, 16, 1), 0.535, atol=1e-3)
    np.testing.assert_allclose(CHANCE(0.8, 16, 4), 0.139, atol=1e-3)
    np.testing.assert_allclose(CHANCE(0.5, 1024, 434), 0.0524, atol=1e-3)


@pytest.mark.parametrize("agents", [16, 64, 256, 1024])
@pytest.mark.parametrize("r", [0.0, 0.5, 0.9, 0.97, 0.99])
def test_the_share_to_keep_bounds_the_risk(agents, r):
    share = float(share_to_keep(jnp.float32(r), jnp.int32(agents), 0.1))
    kept = int(np.ceil(agents * share))
    assert CHANCE(r, agents, kept) <= 0.17
    if 1 < kept < agents:  # one fewer would be a risk that is not small
        assert CHANCE(r, agents, kept - 1) > 0.09


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 9, 1), r"correlation must be a number in \[-1, 1\], got 1.5"),
        ((0.5, 0, 1), "num_agents must be an integer at least 1, got 0"),
        ((0.5, 9, 10), r"kept must be an integer in \[1, 9\], got 10"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CHANCE(*arguments)


def test_real_runs_lose_the_winner_as_often_as_predicted():
    """Agents that go from an early value to a late one, both known: `prune=False` tells who."""
    agents, runs, r = 32, 400, 0.7
    rng = np.random.default_rng(1)
    late = rng.normal(size=(runs, agents)).astype(np.float32)
    early = (r * late + np.sqrt(1 - r * r) * rng.normal(size=late.shape)).astype(np.float32)
    rule = jd.pruning.successive_halving(4.0)

    def arriving(early, late):
        def update(updates, count, params=None):
            return jnp.where(count == 0, early, late) - params, count + 1

        return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)

    @jax.jit
    @jax.vmap
    def first_cut(early, late):
        history = jd.minimize(
            lambda x: x,
            arriving,
            init_params=jnp.zeros(agents),
            hyperparams={"early": early, "late": late},
            steps=2,
            steps_per_rung=1,
            rule=rule,
            prune=False,
        ).history
        return history.alive[0], history.values

    alive, values = first_cut(early, late)
    np.testing.assert_allclose(values, np.stack([early, late], 1), atol=1e-6)
    dropped = np.mean(~np.asarray(alive)[np.arange(runs), late.argmin(1)])
    expected = CHANCE(r, agents, agents // 4)
    np.testing.assert_allclose(dropped, expected, atol=3 * np.sqrt(expected / runs))
