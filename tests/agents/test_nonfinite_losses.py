"""Tests that one bad example among the data does not end a fit, and that divergence does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

EXAMPLES, BAD = 8, 5
X = np.random.default_rng(0).normal(size=(EXAMPLES, 2)).astype(np.float32)
DATA = {"x": X, "y": X @ np.array([1.0, -2.0], np.float32), "i": np.arange(EXAMPLES)}
WITH_BAD = {**DATA, "x": np.where(np.arange(EXAMPLES)[:, None] == BAD, np.nan, X)}
STARTS = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
RATE = 0.05
GUARDED = optax.apply_if_finite(optax.sgd(RATE), 3)
NO_PRUNING = jd.pruning.no_pruning()
OPTIONS = {"init_params": STARTS, "key": jax.random.key(0), "batch_size": 1}


def loss(w, batch):
    """Returns the mean squared error, and reports the example."""
    return jnp.mean((batch["x"] @ w - batch["y"]) ** 2), {"example": batch["i"][0]}


def fit(tx, data, *, loss_fn=loss, rule=NO_PRUNING, **options):
    return jd.fit(loss_fn, tx, data, rule=rule, has_aux=True, **{**OPTIONS, **options})


@pytest.mark.parametrize(
    "tx", [GUARDED, jd.hypergradient(optax.sgd, optax.sgd(0.0), tune={"learning_rate": RATE})]
)
def test_agents_take_the_steps_of_a_plain_loop_that_skips_the_bad_batch(tx):
    found = fit(tx, WITH_BAD, steps=24, steps_per_rung=1)
    order = np.asarray(found.history.aux["example"])[:, 0]
    bad = np.isnan(order)
    assert bad.sum() == 3  # once in each of three epochs
    assert found.history.survivors.tolist() == [6] * 24
    assert found.history.nonfinite_losses.tolist() == [[int(is_bad)] * 6 for is_bad in bad]
    w, values = STARTS.astype(np.float64), [np.full(6, np.nan)]
    for example in np.where(bad, BAD, order).astype(int):
        error = w @ X[example] - DATA["y"][example]
        values.append(values[-1] if example == BAD else error**2)  # a skipped batch has no value
        if example != BAD:
            w = w - 2 * RATE * error[:, None] * X[example]
    np.testing.assert_allclose(found.population.params, w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.history.values, values[1:], rtol=1e-3, atol=1e-6)


def test_values_and_reports_are_means_over_the_batches_with_a_finite_loss():
    steps = fit(GUARDED, WITH_BAD, steps=8, steps_per_rung=1).history.aux
    rung = fit(GUARDED, WITH_BAD, steps=8, steps_per_rung=8).history
    for name in ("loss", "example"):
        np.testing.assert_allclose(rung.aux[name][0], np.nanmean(steps[name], 0), rtol=1e-5)
    np.testing.assert_array_equal(rung.values, rung.aux["loss"])
    assert rung.aux["example"][0, 0] == (sum(range(EXAMPLES)) - BAD) / (EXAMPLES - 1)
    assert rung.nonfinite_losses.tolist() == [[1] * 6]


def test_rules_prune_by_the_other_batches_and_pruning_does_not_change_a_bit():
    halving = jd.pruning.successive_halving()
    runs = [
        fit(GUARDED, WITH_BAD, steps=32, steps_per_rung=8, rule=halving, prune=prune, chunk_size=2)
        for prune in (True, False)
    ]
    for found in runs:
        assert found.history.survivors.tolist() == [3, 2, 1, 1]
        assert found.history.not_finite.tolist() == [0] * 4
    values = np.asarray(runs[0].history.values[0])
    kept = np.argsort(values)[:3]
    assert np.flatnonzero(runs[0].history.alive[0]).tolist() == sorted(kept.tolist())
    winner = int(jnp.argmax(runs[0].population.alive))
    of_winner = [jax.tree.map(lambda x: x[winner], found.population) for found in runs]
    chex.assert_trees_all_equal(*of_winner)
    assert runs[0].value < values.min() / 2


def test_an_optimizer_that_does_not_skip_the_bad_batch_is_removed_at_once():
    with pytest.warns(RuntimeWarning, match="UNDEFINED"):
        found = fit(optax.sgd(RATE), WITH_BAD, steps=8, steps_per_rung=1)
    first = int(np.argmax(np.isnan(np.asarray(found.history.aux["example"])[:, 0])))
    assert found.history.survivors.tolist() == [6] * first + [0] * (8 - first)
    assert found.history.not_finite.tolist()[first] == 6


@pytest.mark.parametrize(("steps_per_rung", "removed_in"), [(1, 10), (4, 3), (15, 1)])
def test_an_agent_whose_losses_are_never_finite_is_removed_after_ten_steps_or_a_rung(
    steps_per_rung, removed_in
):
    def infinite_far_away(w, batch):
        value, aux = loss(w, batch)
        return jnp.where(w[0] > 50, jnp.inf, value), aux

    starts = STARTS.copy()
    starts[2, 0] = 100.0
    found = fit(
        optax.sgd(RATE),
        DATA,
        loss_fn=infinite_far_away,
        init_params=starts,
        steps=30,
        steps_per_rung=steps_per_rung,
    )
    removed = np.asarray(found.history.not_finite)
    assert np.flatnonzero(removed).tolist() == [removed_in - 1]
    assert found.population.alive.tolist() == [True, True, False, True, True, True]
    assert found.id != 2
    assert np.isfinite(found.population.params).all()


def test_a_skipped_batch_leaves_no_nan_in_the_model_state_but_counts_go_on():
    def averaging(w, batch, *, model_state):
        value, _ = loss(w, batch)
        mean = 0.5 * model_state["mean"] + 0.5 * jnp.mean(batch["x"])
        new = {"mean": mean, "count": model_state["count"] + 1}
        return value, {"model_state": new, "mean": mean, "example": batch["i"][0]}

    state = {"mean": np.zeros(6, np.float32), "count": np.zeros(6, np.int32)}
    found = fit(GUARDED, WITH_BAD, loss_fn=averaging, model_state=state, steps=8, steps_per_rung=1)
    means = np.asarray(found.history.aux["mean"])[:, 0]
    order = np.asarray(found.history.aux["example"])[:, 0]
    mean = 0.0
    for example, reported in zip(order, means, strict=True):
        if not np.isnan(example):
            mean = 0.5 * mean + 0.5 * X[int(example)].mean()
            np.testing.assert_allclose(reported, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.population.model_state["mean"], mean, rtol=1e-4)
    assert found.population.model_state["count"].tolist() == [8] * 6


def test_a_bad_validation_example_is_the_value_of_every_agent():
    with pytest.warns(RuntimeWarning, match="UNDEFINED"):
        found = fit(GUARDED, DATA, steps=8, steps_per_rung=4, validation_data=WITH_BAD)
    assert found.history.not_finite.tolist() == [6, 0]
    assert found.value == np.inf


def test_bad_batches_do_not_count_for_the_value_on_validation_data():
    found = fit(GUARDED, WITH_BAD, steps=8, steps_per_rung=1, validation_data=DATA)
    assert found.history.survivors.tolist() == [6] * 8
    assert np.isfinite(found.history.values).all()


def entropy(x):
    return jnp.sum(x * jnp.log(x))  # not defined at 0


def test_agents_that_hop_to_where_the_function_is_undefined_hop_back():
    problem = jd.Problem(entropy, jnp.zeros(2), jnp.ones(2))
    hopping = jd.basin_hopping(optax.adam(0.05), period=5, jump=1.0)
    for steps_per_rung in (1, 7):
        result = jd.minimize(
            problem,
            hopping,
            num_agents=8,
            steps=42,
            steps_per_rung=steps_per_rung,
            rule=NO_PRUNING,
        )
        values = np.asarray(result.history.values)
        if steps_per_rung == 1:
            assert np.isnan(values).sum() > 8  # a jump in four stays within the box
        assert result.history.not_finite.sum() == 0
        assert result.history.survivors[-1] == 8
        np.testing.assert_allclose(np.median(result.population.best_values), -2 / np.e, atol=0.03)


def test_an_agent_that_stays_where_the_function_is_undefined_is_removed_after_ten_steps():
    def undefined_above_half(x):
        return jnp.where(x > 0.5, jnp.nan, -x)

    starts = jnp.array([0.4, 0.0])
    guarded = optax.apply_if_finite(optax.sgd(0.2), 99)
    for bounds in ("project", None):
        result = jd.minimize(
            jd.Problem(undefined_above_half, 0.0, 1.0, bounds=bounds),
            guarded,
            init_params=starts,
            steps=14,
            steps_per_rung=1,
            rule=NO_PRUNING,
        )
        # The first agent leaves at its first step, the second at its third.
        assert np.nonzero(result.history.not_finite)[0].tolist() == [9, 11]
        assert result.value == jnp.float32(-0.4)
        # Such an agent is evaluated again in each rung, at the cost of a gradient.
        assert result.population.gradients.tolist() == [1 + 10 + 9, 1 + 12 + 9]
