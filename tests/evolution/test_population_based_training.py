"""Population-based training copies good agents and changes the hyperparameters of the copies."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxdescent as jd
from jaxdescent.evolution.population_based_training import tournament, truncation
from tests.evolution.populations import NAN, keys, with_values

RATES = {"learning_rate": jd.positive((1e-4, 1e-1))}
pbt = jd.evolution.population_based_training


def update(rule, population, rung=0, seed=0):
    return jax.jit(rule.update)(jax.random.key(seed), population, None, jnp.int32(rung))


def sources(choose, population, draws):
    """Returns i32[draws, agents], the sources that many keys give."""
    return np.asarray(jax.jit(jax.vmap(lambda key: choose(key, population)))(keys(draws)))


@pytest.mark.parametrize(
    ("size", "quantile", "count"),
    [
        (10, 0.2, 2),
        (10, 0.3, 3),
        (10, 0.25, 3),
        (4, 0.2, 1),
        (5, 0.5, 2),
        (2, 0.01, 1),
        (3, 0.5, 1),
    ],
)
def test_truncation_replaces_the_worst_quantile_by_the_best(size, quantile, count):
    order = np.random.default_rng(0).permutation(size)  # agent order[r] has the rank r
    population, _ = with_values(np.argsort(order))
    drawn = sources(partial(truncation, quantile=quantile), population, 2_000)
    kept, replaced = order[:-count], order[-count:]
    assert np.array_equal(drawn[:, kept], np.broadcast_to(kept, (2_000, size - count)))
    shares = [np.mean(drawn[:, replaced] == agent) for agent in order[:count]]
    assert np.sum(shares) == pytest.approx(1)
    assert shares == pytest.approx(np.full(count, 1 / count), abs=4 * 0.5 / 2_000**0.5)


def test_an_agent_is_replaced_in_a_tournament_with_the_probability_of_a_better_opponent():
    population, _ = with_values([3.0, 0.0, 2.0, 1.0])
    drawn = sources(tournament, population, 4_000)
    for agent, better in ((0, [1, 2, 3]), (1, []), (2, [1, 3]), (3, [1])):
        for other in range(4):
            share = np.mean(drawn[:, agent] == other)
            wanted = 1 / 3 if other in better else 1 - len(better) / 3 if other == agent else 0
            assert share == pytest.approx(wanted, abs=4 * 0.5 / 4_000**0.5)


@pytest.mark.parametrize("choose", [partial(truncation, quantile=0.25), tournament])
def test_agents_that_diverged_are_replaced_and_pruned_or_restarted_ones_are_not(choose):
    population, _ = with_values(
        [5.0, NAN, 1.0, -9.0, NAN, 2.0, -8.0, jnp.inf],
        alive=[True, False, True, False, True, True, True, False],  # agent 3 is pruned
        evaluated=[True, True, True, True, False, True, False, True],  # 4 and 6 are restarted
    )
    drawn = sources(choose, population, 500)
    assert np.array_equal(drawn[:, [2, 3, 4, 6]], np.broadcast_to([2, 3, 4, 6], (500, 4)))
    # Of 5 agents, a quarter is rounded up to 2.
    for diverged in (1, 7):
        assert set(drawn[:, diverged]) == ({0, 2, 5} if choose is tournament else {2, 5})


@pytest.mark.parametrize("choose", [partial(truncation, quantile=0.5), tournament])
@pytest.mark.parametrize("values", [[NAN] * 3, [NAN, 1.0, NAN], [1.0] * 3])
def test_few_finite_values_or_ties_leave_valid_sources(choose, values):
    population, _ = with_values(values, alive=np.isfinite(values))
    drawn = sources(choose, population, 50)
    good = np.flatnonzero(np.isfinite(values))
    if not len(good):
        assert np.array_equal(drawn, np.broadcast_to(np.arange(3), (50, 3)))
    else:
        assert np.isin(drawn, good).all()


def test_copies_carry_the_optimizer_state_and_change_their_own_hyperparameters_only():
    hyperparams = {
        "learning_rate": jnp.array([0.1, 0.2, 0.3, 0.4, 0.5], jnp.bfloat16),
        "b1": jnp.full((5, 2), 0.9),
        "shift": jnp.linspace(-1, 1, 5),
        "index": jnp.arange(5),
    }
    population, _ = with_values([4.0, 3.0, 2.0, 1.0, 0.0], hyperparams=hyperparams)
    spaces = {
        **RATES,
        "b1": jd.unit_interval((0.5, 0.99)),
        "shift": jd.unconstrained((-2.0, 3.0)),
    }
    rule = pbt(spaces, resample_probability=0.0, factors=(0.5, 3.0))
    found = [update(rule, population, seed=seed) for seed in range(20)]
    for after, _, info in found:
        assert info.source.tolist() == [4, 1, 2, 3, 4]
        assert after.params.ravel().tolist() == [4, 1, 2, 3, 4]
        assert after.opt_state[0].count.tolist() == [4, 1, 2, 3, 4]
        assert after.hyperparams["index"].tolist() == [4, 1, 2, 3, 4]
        for name, used in info.hyperparams.items():
            assert np.array_equal(used, hyperparams[name])
            assert np.array_equal(after.hyperparams[name][1:], hyperparams[name][1:])
            assert after.hyperparams[name].dtype == hyperparams[name].dtype

    def changed(name):
        return np.unique(
            np.round([float(x) for f in found for x in f[0].hyperparams[name][0].ravel()], 5)
        )

    assert changed("learning_rate") == pytest.approx([0.25, 1.5])
    assert changed("b1") == pytest.approx([4.5 / 5.5, 27 / 28], abs=1e-5)  # odds 9 times the factor
    assert changed("shift") == pytest.approx([1 - 0.5 * 5, 1 + 2 * 5])
    # The elements of a hyperparameter step independently.
    assert {len(set(np.asarray(f[0].hyperparams["b1"][0]).tolist())) for f in found} == {1, 2}


def test_new_draws_are_uniform_in_the_coordinate():
    size = 1_000
    population, _ = with_values(
        np.arange(size),
        hyperparams={"learning_rate": jnp.full(size, 7.0), "b1": jnp.full(size, 0.1)},
    )
    spaces = {**RATES, "b1": jd.unit_interval((0.5, 0.99))}
    after, _, info = update(pbt(spaces, resample_probability=1.0, quantile=0.5), population)
    copies = np.asarray(info.source != np.arange(size))
    assert copies.sum() == size // 2
    rates, b1 = (np.asarray(after.hyperparams[name])[copies] for name in ("learning_rate", "b1"))
    assert stats.kstest((np.log10(rates) + 4) / 3, "uniform").pvalue > 0.01
    low, high = np.log(0.5 / 0.5), np.log(0.99 / 0.01)
    assert stats.kstest((np.log(b1 / (1 - b1)) - low) / (high - low), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(rates, b1)[0, 1]) < 0.15


def test_a_quarter_of_the_changes_are_new_draws_by_default():
    population, _ = with_values(
        np.arange(2_000), hyperparams={"learning_rate": jnp.full(2_000, 1e-2)}
    )
    after, _, info = update(pbt(RATES, quantile=0.5), population)
    rates = np.asarray(after.hyperparams["learning_rate"])[
        np.asarray(info.source) != np.arange(2_000)
    ]
    near = [np.mean(np.isclose(rates, x)) for x in (8e-3, 1.2e-2)]
    assert near == pytest.approx([0.375, 0.375], abs=0.06)


def test_nothing_changes_in_the_burn_in():
    population, _ = with_values([3.0, 1.0, 2.0])
    rule = pbt(RATES, burn_in=2)
    for rung in range(4):
        after, state, info = update(rule, population, rung)
        assert (info.source[0] != 0) == (rung >= 2)
        assert np.array_equal(after.params[0] != population.params[0], [rung >= 2])
        assert state == rung + 1


def test_new_hyperparameters_take_effect_in_the_next_rung():
    # On f(x) = x each step of SGD moves an agent by its learning rate.
    result = jd.minimize(
        lambda x: x[0],
        optax.sgd,
        init_params=jnp.zeros((8, 1)),
        hyperparams=jd.evolution.sample_hyperparams(jax.random.key(1), RATES, 8),
        steps=60,
        num_rungs=12,
        rule=pbt(RATES),
        record_params=True,
    )
    ends, (source, hyperparams) = (
        np.asarray(result.history.params)[..., 0],
        result.history.rule_info,
    )
    starts = np.take_along_axis(ends, np.asarray(source), axis=1)
    starts = np.concatenate([np.zeros((1, 8)), starts[:-1]])
    assert starts - ends == pytest.approx(5 * np.asarray(hyperparams["learning_rate"]), rel=1e-4)
    assert (np.asarray(source) != np.arange(8)).sum() >= 2 * 12


@pytest.mark.parametrize("mode", ["min", "max"])
def test_agents_are_compared_on_validation_data(mode):
    def loss(x, batch):
        return jnp.mean((x - batch) ** 2)

    def value(x, held_out):
        return jnp.mean((x - held_out) ** 2) * (1 if mode == "min" else -1)

    result = jd.fit(
        loss,
        optax.sgd,
        jnp.ones(4),  # descent leads away from the validation data
        validation_data=jnp.zeros(4),
        value_fn=value,
        mode=mode,
        init_params=jnp.linspace(0.0, 0.5, 5),
        hyperparams={"learning_rate": jnp.full(5, 1e-3)},
        key=jax.random.key(0),
        steps=2,
        num_rungs=2,
        batch_size=None,
        rule=pbt(RATES),
    )
    assert result.history.rule_info.source.tolist()[0] == [0, 1, 2, 3, 0]
    assert result.id == 0


def test_a_diverged_agent_comes_back_as_a_copy():
    result = jd.minimize(
        lambda x: jnp.sum(x**2),
        optax.sgd,
        init_params=jnp.ones((4, 1)),
        hyperparams={"learning_rate": jnp.array([0.01, 0.1, 1e30, 1e30])},
        steps=40,
        num_rungs=4,
        rule=pbt(RATES, burn_in=1),
    )
    assert result.history.not_finite.tolist() == [2, 0, 0, 0]
    assert result.history.survivors.tolist() == [2, 4, 4, 4]
    assert result.history.rule_info.source[1, 2:].tolist() == [1, 1]


def test_agents_that_another_rule_prunes_stay_pruned():
    rule = jd.pruning.chain(jd.pruning.successive_halving(), pbt(RATES, quantile=0.5))
    result = jd.minimize(
        lambda x: jnp.sum(x**2),
        optax.sgd,
        init_params=jnp.ones((8, 1)),
        hyperparams=jd.evolution.sample_hyperparams(jax.random.key(0), RATES, 8),
        steps=40,
        num_rungs=4,
        rule=rule,
    )
    assert result.history.survivors.tolist() == [4, 2, 1, 1]


def test_one_program_serves_all_rungs_and_later_runs_with_other_keys():
    traces = []

    def loss(x, batch):
        traces.append(x)
        return bowl(x - batch)

    def run(seed):
        return jd.fit(
            loss,
            optax.adam,
            jnp.zeros((4, 2)),
            batch_size=2,
            init_params=jnp.ones((6, 2)),
            hyperparams=jd.evolution.sample_hyperparams(jax.random.key(seed), RATES, 6),
            steps=30,
            num_rungs=6,
            rule=pbt({"learning_rate": jd.positive((1e-4, 1e-1))}),
            key=jax.random.key(seed),
        )

    first = float(run(0).value)
    count = len(traces)
    assert float(run(1).value) != first
    assert len(traces) == count


def bowl(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spaces": {}}, ValueError, "spaces must hold at least one entry"),
        ({"spaces": [1]}, TypeError, "spaces must be a mapping of ranges"),
        ({"spaces": {"b1": 0.5}}, TypeError, r"spaces\['b1'\] must be a range made by jd.positive"),
        (
            {"spaces": {"b1": jd.positive(0.5)}},
            ValueError,
            r"spaces\['b1'\] must hold a lower and an upper end.*got 0\.5",
        ),
        (
            {"spaces": {"b1": jd.positive((0.5, 0.1))}},
            ValueError,
            r"spaces\['b1'\] must hold a lower and an upper end.*got \[0\.5",
        ),
        (
            {"exploit": "best"},
            ValueError,
            "exploit must be 'truncation' or 'tournament', got 'best'",
        ),
        ({"quantile": 0}, ValueError, r"quantile must be in \(0, 0.5\], got 0"),
        ({"quantile": 0.6}, ValueError, r"quantile must be a number in \[0, 0.5\], got 0.6"),
        ({"factors": (0.8, 1.2, 2)}, ValueError, "factors must be two numbers"),
        ({"factors": (0.0, 1.2)}, ValueError, r"factors must be in \(0, inf\), got \(0.0, 1.2\)"),
        ({"resample_probability": 2}, ValueError, "resample_probability must be a number in"),
        ({"burn_in": -1}, ValueError, "burn_in must be an integer at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        pbt(**{"spaces": RATES, **arguments})


@pytest.mark.parametrize(
    ("num_agents", "optimizer", "hyperparams", "message"),
    [
        (1, optax.sgd, {"learning_rate": [0.1]}, "num_agents must be at least 2"),
        (
            2,
            optax.sgd(0.1),
            None,
            "got 'learning_rate' and a population without hyperparameters; add it to hyperparams=",
        ),
        (
            2,
            lambda b1: optax.adam(0.1, b1),
            {"b1": [0.5, 0.6]},
            "must name hyperparameters.*got 'learning_rate' and a population with b1",
        ),
        (
            2,
            lambda learning_rate: optax.sgd(0.1 * learning_rate),
            {"learning_rate": [1, 2]},
            r"hyperparams\['learning_rate'\] must be floating point to be perturbed, got int32",
        ),
        (
            2,
            optax.inject_hyperparams(optax.sgd),
            {"learning_rate": [0.1, 0.2]},
            "optimizer must use 'learning_rate' at each step.*without optax.inject_hyperparams",
        ),
    ],
)
def test_populations_that_the_rule_cannot_act_on_are_refused(
    num_agents, optimizer, hyperparams, message
):
    hyperparams = hyperparams and {name: jnp.array(x) for name, x in hyperparams.items()}
    with pytest.raises(ValueError, match=message):
        jd.minimize(
            bowl,
            optimizer,
            init_params=jnp.ones((num_agents, 2)),
            hyperparams=hyperparams,
            steps=2,
            rule=pbt(RATES),
        )


@pytest.mark.parametrize(
    "optimizer",
    [optax.adamw, optax.lbfgs, partial(jd.basin_hopping, optax.adam(0.1), period=5)],
    ids=["adamw", "lbfgs", "basin_hopping"],
)
def test_optimizers_that_use_their_hyperparameters_are_accepted(optimizer):
    name = "jump" if isinstance(optimizer, partial) else "learning_rate"
    spaces = {name: jd.positive((1e-2, 1e-1))}
    loop = jd.minimize_loop(bowl, optimizer, num_agents=4, rule=pbt(spaces))
    drawn = jd.evolution.sample_hyperparams(jax.random.key(0), spaces, 4)
    jax.eval_shape(loop.init, jax.random.key(0), jnp.ones((4, 2)), drawn)
