"""The hyperparameters along the lineage of the best agent replay its training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

SPACES = {"learning_rate": jd.positive((1e-3, 0.1)), "b1": jd.unit_interval((0.5, 0.99))}
RULE = jd.evolution.population_based_training(SPACES, quantile=0.4, burn_in=1)


def hyperparams(num_agents):
    return jd.evolution.sample_hyperparams(jax.random.key(3), SPACES, num_agents)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_plain_optax_with_the_schedule_gives_the_parameters_of_the_best_agent():
    starts = jax.random.normal(jax.random.key(0), (6, 3))
    with jax.enable_x64(True):
        result = jd.minimize(
            rosenbrock,
            optax.adam,
            init_params=starts.astype(jnp.float64),
            hyperparams={name: x.astype(jnp.float64) for name, x in hyperparams(6).items()},
            steps=95,
            steps_per_rung=10,
            rule=RULE,
            record_params=True,
        )
        schedule = jd.evolution.hyperparameter_schedule(result)
        assert schedule.steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
        assert len(set(schedule.agents)) > 1  # the best agent is a copy
        assert schedule.agents[-1] == result.id
        x = starts[schedule.agents[0]].astype(jnp.float64)
        state = optax.adam(1.0).init(x)
        begin, length = 0, np.diff(schedule.steps, prepend=0)
        for rung, steps in enumerate(length):
            used = {name: values[rung] for name, values in schedule.hyperparams.items()}
            for _ in range(steps):
                updates, state = optax.adam(**used).update(jax.grad(rosenbrock)(x), state)
                x = optax.apply_updates(x, updates)
            begin += steps
            recorded = result.history.params[rung, schedule.agents[rung]]
            assert np.asarray(x) == pytest.approx(np.asarray(recorded), rel=1e-9), rung
    assert len({*schedule.hyperparams["learning_rate"]}) > 2


def test_one_agent_trained_with_the_schedule_on_the_same_batches_is_the_best_agent():
    data = jax.random.normal(jax.random.key(1), (64, 4))

    def loss(x, batch):
        return jnp.mean(jnp.abs(batch @ x - 1) + 0.1 * jnp.sum(x**2))

    def fit(optimizer, init_params, **options):
        return jd.fit(
            loss,
            optimizer,
            data,
            validation_data=data[:16],
            init_params=init_params,
            key=jax.random.key(2),
            batch_size=8,
            steps=120,
            **options,
        )

    starts = jax.random.normal(jax.random.key(0), (8, 4))
    spaces = {"learning_rate": SPACES["learning_rate"]}
    drawn = {"learning_rate": hyperparams(8)["learning_rate"]}
    rule = jd.pruning.chain(
        jd.pruning.no_pruning(),
        jd.evolution.population_based_training(spaces, exploit="tournament"),
    )
    result = fit(optax.adam, starts, hyperparams=drawn, rule=rule, num_rungs=12)
    schedule = jd.evolution.hyperparameter_schedule(result)
    assert len(set(schedule.hyperparams["learning_rate"])) > 2
    alone = fit(
        optax.adam(schedule.function_of_step("learning_rate")),
        starts[schedule.agents[:1]],
        num_rungs=12,
    )
    rung = len(schedule.steps) - 1
    assert alone.history.values[rung, 0] == pytest.approx(float(result.value), rel=1e-5)
    assert np.asarray(alone.params) == pytest.approx(np.asarray(result.params), rel=1e-4)


def a_result(best_values, steps, sources, *, id):
    """Returns a result with a given lineage; the learning rate of agent i in rung r is 10 r + i."""
    result = jd.minimize(
        rosenbrock,
        optax.adam,
        init_params=jnp.zeros((3, 2)),
        hyperparams={name: x[:3] for name, x in hyperparams(3).items()},
        steps=4,
        num_rungs=4,
        rule=RULE,
    )
    rates = 10.0 * np.arange(4)[:, None] + np.arange(3)
    lineage = jd.evolution.Lineage(np.array(sources), {"learning_rate": rates})
    history = result.history._replace(
        best_value=np.array(best_values), steps=np.array(steps), rule_info=(None, lineage)
    )
    return result._replace(value=min(best_values), id=np.array(id), history=history)


def test_a_lineage_is_followed_back_from_the_rung_of_the_best_value():
    sources = [[0, 0, 2], [1, 1, 1], [2, 1, 0], [1, 1, 1]]
    last = jd.evolution.hyperparameter_schedule(
        a_result([4.0, 3.0, 2.0, 1.0], [5, 10, 15, 20], sources, id=0)
    )
    assert last.agents.tolist() == [0, 1, 2, 0]
    assert last.hyperparams["learning_rate"].tolist() == [0, 11, 22, 30]
    function = last.function_of_step("learning_rate")
    steps = [0, 4, 5, 9, 10, 14, 15, 19, 20, 99]
    assert jax.jit(jax.vmap(function))(jnp.array(steps)).tolist() == [
        *(0, 0, 11, 11, 22, 22, 30, 30, 30, 30)
    ]
    early = jd.evolution.hyperparameter_schedule(
        a_result([4.0, 1.0, 1.0, 1.0], [5, 10, 15, 20], sources, id=2)
    )
    assert early.agents.tolist() == [2, 2]
    assert early.steps.tolist() == [5, 10]


def test_a_rung_without_steps_is_not_part_of_the_schedule():
    sources = [[0, 0, 2], [1, 1, 1], [2, 1, 0], [1, 1, 1]]
    schedule = jd.evolution.hyperparameter_schedule(
        a_result([4.0, 3.0, 3.0, 1.0], [5, 5, 15, 20], sources, id=0)
    )
    assert schedule.agents.tolist() == [2, 2, 0]
    assert schedule.hyperparams["learning_rate"].tolist() == [2, 22, 30]
    assert schedule.steps.tolist() == [5, 15, 20]


def test_results_without_a_lineage_are_refused():
    result = jd.minimize(rosenbrock, optax.adam(0.1), init_params=jnp.zeros((3, 2)), steps=4)
    with pytest.raises(ValueError, match="result must be of a run with the rule population_based"):
        jd.evolution.hyperparameter_schedule(result)
    nowhere_finite = a_result([np.inf] * 4, [1, 2, 3, 4], np.zeros((4, 3), int), id=-1)
    with pytest.raises(ValueError, match="result must have a finite value, got none"):
        jd.evolution.hyperparameter_schedule(nowhere_finite)
    schedule = jd.evolution.hyperparameter_schedule(
        a_result([1.0] * 4, [1, 2, 3, 4], np.zeros((4, 3), int), id=0)
    )
    with pytest.raises(ValueError, match="name must be one of learning_rate, got 'b1'"):
        schedule.function_of_step("b1")
