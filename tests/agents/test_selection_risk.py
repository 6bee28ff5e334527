"""The numbers of `jaxdescent/agents/THEORY.md`, and the share that `adaptive` keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.agents.pruning.selection_risk import prob_best_pruned, share_to_keep

CASES = [(0.5, 64, 16), (0.8, 16, 1), (0.8, 16, 4), (0.95, 128, 4), (-0.5, 10, 3), (0.9999, 512, 1)]


@pytest.mark.parametrize(("r", "agents", "kept"), CASES)
def test_the_probability_agrees_with_a_simulation(r, agents, kept):
    rng = np.random.default_rng(0)
    late = rng.normal(size=(20_000, agents))
    early = r * late + np.sqrt(1 - r * r) * rng.normal(size=late.shape)
    best = early[np.arange(len(late)), late.argmin(1)]
    pruned = np.mean(np.sum(early < best[:, None], axis=1) >= kept)
    error = np.sqrt(pruned * (1 - pruned) / 20_000)
    np.testing.assert_allclose(prob_best_pruned(r, agents, kept), pruned, atol=4 * error)


@pytest.mark.parametrize(("agents", "kept"), [(2, 1), (100, 25), (1024, 1), (1024, 1000)])
def test_without_correlation_the_agents_kept_are_random(agents, kept):
    np.testing.assert_allclose(prob_best_pruned(0.0, agents, kept), 1 - kept / agents, atol=1e-6)


def test_it_agrees_with_the_closed_form_for_two_agents():
    # The early and late differences have correlation r; the probability of a quadrant is an arc.
    for r in (-0.7, 0.3, 0.9):
        np.testing.assert_allclose(prob_best_pruned(r, 2, 1), np.arccos(r) / np.pi, atol=2e-5)


def test_the_limits():
    assert (
        prob_best_pruned(1.0, 9, 1)
        == prob_best_pruned(0.3, 9, 9)
        == prob_best_pruned(-1.0, 1, 1)
        == 0.0
    )
    assert prob_best_pruned(-1.0, 9, 8) == 1.0


def test_the_numbers_of_theory_md():
    np.testing.assert_allclose(prob_best_pruned(0.9, 1024, 256), 4e-6, atol=1e-6)
    np.testing.assert_allclose(prob_best_pruned(0.5, 64, 16), 0.287, atol=1e-3)
    np.testing.assert_allclose(prob_best_pruned(0.8, 16, 1), 0.535, atol=1e-3)
    np.testing.assert_allclose(prob_best_pruned(0.8, 16, 4), 0.139, atol=1e-3)
    np.testing.assert_allclose(prob_best_pruned(0.5, 1024, 434), 0.0524, atol=1e-3)


@pytest.mark.parametrize("agents", [16, 64, 256, 1024])
@pytest.mark.parametrize("r", [0.0, 0.5, 0.9, 0.97, 0.99])
def test_the_share_to_keep_bounds_the_risk(agents, r):
    share = float(share_to_keep(jnp.float32(r), jnp.int32(agents), 0.1))
    kept = int(np.ceil(agents * share))
    assert prob_best_pruned(r, agents, kept) <= 0.17
    if 1 < kept < agents:  # keeping one agent less exceeds the risk
        assert prob_best_pruned(r, agents, kept - 1) > 0.09


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
        prob_best_pruned(*arguments)


def test_runs_prune_the_best_agent_as_often_as_predicted():
    """Agents move to a given early value and then to a late one; `prune=False` shows both."""
    agents, runs, r = 32, 400, 0.7
    rng = np.random.default_rng(1)
    late = rng.normal(size=(runs, agents)).astype(np.float32)
    early = (r * late + np.sqrt(1 - r * r) * rng.normal(size=late.shape)).astype(np.float32)
    rule = jd.pruning.successive_halving(4.0)

    def move_to(early, late):
        def update(updates, count, params=None):
            return jnp.where(count == 0, early, late) - params, count + 1

        return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)

    @jax.jit
    @jax.vmap
    def first_pruning(early, late):
        history = jd.minimize(
            lambda x: x,
            move_to,
            init_params=jnp.zeros(agents),
            hyperparams={"early": early, "late": late},
            steps=2,
            steps_per_rung=1,
            rule=rule,
            prune=False,
        ).history
        return history.alive[0], history.values

    alive, values = first_pruning(early, late)
    np.testing.assert_allclose(values, np.stack([early, late], 1), atol=1e-6)
    pruned = np.mean(~np.asarray(alive)[np.arange(runs), late.argmin(1)])
    expected = prob_best_pruned(r, agents, agents // 4)
    np.testing.assert_allclose(pruned, expected, atol=3 * np.sqrt(expected / runs))
