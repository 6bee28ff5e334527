"""Evolutionary SGD undoes rungs that made an agent worse, so that no agent's value ever rises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxdescent as jd
from jaxdescent.evolution.evolutionary_sgd import draw_parents, recombined
from tests.evolution.populations import NAN, keys, with_values

esgd = jd.evolution.evolutionary_sgd


def begin(rule, values, **options):
    """Returns a population, its problem and the state of the rule after one rung."""
    population, problem = with_values(values, **options)
    unknown = population._replace(evaluated=jnp.zeros(len(values), bool))
    state = rule.init(jax.random.key(0), unknown, problem)
    population, state, _ = jax.jit(rule.update)(jax.random.key(0), population, problem, state)
    return population, problem, state


def descended(population, values):
    """Returns the population as after a rung that added 100 to all parameters and step counts."""
    adam, *rest = population.opt_state
    values = jnp.asarray(values, jnp.float32)
    return population._replace(
        params=population.params + 100,
        opt_state=(adam._replace(count=adam.count + 100), *rest),
        values=values,
        evaluated=jnp.ones(len(values), bool),
        age=population.age + 1,
        alive=population.alive & jnp.isfinite(values),
        gradients=population.gradients + 7,
    )


@jax.jit
def best_values(key):
    """Returns f[20, 4], the values of 4 agents after each of 20 generations of a wild function."""

    def wild(x, shift, steepness):
        value = jnp.sum(jnp.sin(steepness * x + shift) + 0.1 * x**2 + 0.3 * jnp.round(3 * x))
        return jnp.where(jnp.sum(x) > 3, jnp.nan, value)

    a, b, c, d = jax.random.split(key, 4)
    box = jnp.full(3, 4.0)
    shift, steepness = jax.random.uniform(a, (3,)), 10 ** jax.random.uniform(b, (), maxval=1.5)
    result = jd.minimize(
        jd.Problem(wild, -box, box, data=(shift, steepness)),
        optax.sgd,
        num_agents=4,
        hyperparams={"learning_rate": 10 ** jax.random.uniform(c, (4,), minval=-4, maxval=1)},
        steps=40,
        num_rungs=20,
        rule=esgd(0.2, elite=0.25),
        key=d,
    )
    info = result.history.rule_info
    return info.values, info.restored, info.offspring, result.value


def test_in_ten_thousand_generations_no_value_ever_rises():
    values, restored, offspring, found = map(np.asarray, jax.vmap(best_values)(keys(500)))
    known = np.where(np.isnan(values), np.inf, values)
    assert values.shape == (500, 20, 4)
    assert np.all(known[:, 1:] <= known[:, :-1])
    assert np.all(found <= known[:, -1].min(axis=1))
    # The property is not empty: rungs end worse, offspring come and are often better.
    assert 0.1 < restored[:, 1:].mean() < 0.9
    assert np.array_equal(offspring.sum(axis=2), np.isfinite(values).any(axis=2))
    assert offspring.mean() > 0.2
    successful = offspring[:, :-1] & ~restored[:, 1:]
    assert 0.02 < successful.mean() < 0.2


def test_an_agent_whose_value_rose_goes_back_with_its_optimizer_state():
    rule = esgd(0.0, elite=0.5, offspring=0.01)
    population, problem, state = begin(rule, [0.0, 1.0, 2.0, 3.0])
    ended = descended(population, [0.5, 1.0, 1.5, NAN])
    # The offspring of the first rung replaced an agent outside of the elite.
    placed = int(jnp.argmin(population.evaluated))
    assert placed in (2, 3)
    after, new_state, info = jax.jit(rule.update)(jax.random.key(1), ended, problem, state)
    assert info.restored.tolist() == [True, False, False, True]
    assert info.values.tolist() == [0.0, 1.0, 1.5, 3.0]
    before = new_state.before
    assert before.params.ravel().tolist()[:2] == [0.0, 101.0]
    assert before.params[3].tolist() == [3.0]  # also if an offspring had replaced it
    assert before.opt_state[0].count.tolist()[:2] == [0, 101]
    assert before.alive.tolist() == [True] * 4
    assert before.gradients.tolist() == [7] * 4  # counts go on
    # The elite is not replaced; the restored agent is, rather than the other one.
    assert info.offspring.tolist() == [False, False, False, True]
    assert after.evaluated.tolist() == [True, True, True, False]
    assert after.opt_state[0].count[3] == 0
    assert new_state.generation == 2


def test_an_offspring_keeps_its_place_unless_the_agent_that_it_replaced_was_better():
    rule = esgd(0.1, elite=0.5, offspring=0.5)
    population, problem, state = begin(rule, [0.0, 1.0, 2.0, 3.0])
    assert population.evaluated.tolist() == [True, True, False, False]
    ended = descended(population, [0.0, 1.0, 1.9, 3.1])
    _, new_state, info = jax.jit(rule.update)(jax.random.key(1), ended, problem, state)
    assert info.restored.tolist() == [False, False, False, True]
    assert new_state.before.params[2] == ended.params[2]
    assert new_state.before.params[3] == 3.0


def test_pruned_agents_stay_pruned_and_agents_that_never_had_a_value_are_replaced():
    rule = esgd(0.1, elite=0.25, offspring=0.5)
    population, problem = with_values([1.0, NAN, 0.0, 2.0], alive=[True, False, True, False])
    unknown = population._replace(evaluated=jnp.zeros(4, bool))
    state = rule.init(jax.random.key(0), unknown, problem)
    after, _, info = jax.jit(rule.update)(jax.random.key(0), population, problem, state)
    assert info.offspring.tolist() == [True, True, False, False]
    assert after.alive.tolist() == [True, True, True, False]
    nothing = population._replace(values=jnp.full(4, NAN), alive=jnp.zeros(4, bool))
    after, _, info = jax.jit(rule.update)(jax.random.key(0), nothing, problem, state)
    assert not info.offspring.any()
    assert not after.alive.any()


def test_parents_are_drawn_with_a_probability_linear_in_their_rank():
    scores = jnp.array([2.0, jnp.inf, 0.0, 1.0, 3.0])
    drawn = np.asarray(draw_parents(jax.random.key(0), scores, 20_000))
    shares = [np.mean(drawn == agent) for agent in range(5)]
    assert shares == pytest.approx([0.2, 0, 0.4, 0.3, 0.1], abs=0.01)


def test_an_offspring_is_the_mean_of_its_parents_with_noise_that_shrinks():
    size = 4_000
    params = {"a": jnp.arange(size, dtype=jnp.float32), "b": jnp.zeros((size, 2), jnp.bfloat16)}
    parents = jnp.stack([jnp.zeros(size, jnp.int32), jnp.full(size, 10)], axis=1)
    scale = {"a": jnp.float32(3.0), "b": jnp.ones(2)}
    found = recombined(jax.random.key(0), params, parents, 0.5, scale)
    assert found["b"].dtype == jnp.bfloat16
    assert stats.kstest(np.asarray(found["a"]), stats.norm(5, 1.5).cdf).pvalue > 0.01
    assert np.asarray(found["b"], float).std() == pytest.approx(0.5, rel=0.05)

    rule = esgd(0.5, sigma_decay=0.1, num_parents=1, elite=0.01, offspring=0.98)
    population, problem = with_values(jnp.zeros(size))
    population = population._replace(params=0 * population.params)
    state = rule.init(jax.random.key(0), population, problem)
    spreads = []
    for generation in range(3):
        later = state._replace(generation=jnp.int32(generation))
        after, *_ = jax.jit(rule.update)(jax.random.key(0), population, problem, later)
        spreads.append(float(jnp.std(after.params, where=~after.evaluated[:, None])))
    # The box is 4 wide.
    assert spreads == pytest.approx([2.0, 0.2, 0.02], rel=0.05)


def test_in_fit_with_validation_data_no_value_ever_rises():
    data = jax.random.normal(jax.random.key(0), (64, 3))

    def loss(x, batch):
        return jnp.mean(jnp.abs(batch @ x - 1))

    result = jd.fit(
        loss,
        optax.sgd(0.5),  # too high: values rise often
        data,
        validation_data=data[:20],
        init_params=jax.random.normal(jax.random.key(1), (8, 3)),
        key=jax.random.key(2),
        batch_size=4,
        steps=60,
        num_rungs=20,
        rule=esgd(0.05),
    )
    values = np.asarray(result.history.rule_info.values)
    assert np.all(np.diff(values, axis=0) <= 0)
    assert np.any(np.diff(np.asarray(result.history.values), axis=0) > 0)
    assert result.value == values.min()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -0.1}, r"sigma must be a number in \[0, inf\], got -0.1"),
        ({"sigma": NAN}, "sigma must be finite, got nan"),
        ({"sigma_decay": 0}, r"sigma_decay must be in \(0, 1\], got 0"),
        ({"sigma_decay": 1.5}, r"sigma_decay must be in \(0, 1\], got 1.5"),
        ({"num_parents": 0}, "num_parents must be an integer at least 1, got 0"),
        ({"elite": 1.0}, r"elite must be in \(0, 1\), got 1.0"),
        ({"offspring": 0}, r"offspring must be in \(0, 1\), got 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        esgd(**{"sigma": 0.1, **arguments})


@pytest.mark.parametrize(
    ("num_agents", "arguments", "message"),
    [
        (1, {}, "num_agents must be at least 2, for an elite of 1 and 1 offspring, got 1"),
        (4, {"elite": 0.7, "offspring": 0.5}, "num_agents must be at least 5.*lower elite"),
    ],
)
def test_a_population_that_is_too_small_is_refused(num_agents, arguments, message):
    with pytest.raises(ValueError, match=message):
        jd.minimize(
            lambda x: jnp.sum(x**2),
            optax.sgd(0.1),
            init_params=jnp.ones((num_agents, 1)),
            steps=4,
            rule=esgd(0.1, **arguments),
        )
