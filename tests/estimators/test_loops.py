"""Loops of populations, towers and plain optimizers train on the gradients of an estimator."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.estimators.registry import ESTIMATORS

SMOOTHED = jd.estimators.smoothed(0.1, 4)  # five evaluations
KEEP = jd.pruning.no_pruning()
STARTS = jnp.array([[1.0, -2.0], [1.0, -2.0], [0.5, 0.5]])


def sphere(x):
    return jnp.sum(x**2)


def minimized(function=sphere, optimizer=None, *, key=0, **settings):
    optimizer = optax.sgd(0.01) if optimizer is None else optimizer
    settings = {"init_params": STARTS, "rule": KEEP, "num_rungs": 1} | settings
    return jd.minimize(function, optimizer, key=jax.random.key(key), **settings)


@pytest.mark.parametrize("name", ["smoothed", "smoothed, gradients"])
def test_minimize_counts_what_an_estimator_spends(name):
    estimator = ESTIMATORS[name].make(0.1, 6)
    result = minimized(estimator=estimator, steps=10, num_rungs=2)
    calls = 3 * (1 + 10)
    assert result.evaluations == calls * estimator.evaluations
    assert result.gradients == calls * estimator.gradients
    assert result.history.evaluations.tolist() == [
        3 * 6 * estimator.evaluations,
        calls * estimator.evaluations,
    ]


def test_a_gradient_budget_bounds_the_evaluations_of_an_estimator():
    result = minimized(estimator=SMOOTHED, gradient_budget=200, num_rungs=2)
    # 40 estimates: 3 at the starts, and 12 steps of 3 agents.
    assert result.state.steps == 12
    assert (result.evaluations, result.gradients) == (39 * 5, 0)


def test_a_gradient_budget_is_enough_for_one_estimate_of_each_agent():
    with pytest.raises(ValueError, match=r"gradient_budget must be an integer in \[15, .*got 14"):
        minimized(estimator=SMOOTHED, gradient_budget=14)
    result = minimized(estimator=SMOOTHED, gradient_budget=15, num_rungs=2)
    assert result.evaluations == 15


def test_agents_and_steps_draw_their_own_numbers():
    def slope(x):  # estimates of a constant gradient differ only by their random directions
        return jnp.sum(x)

    runs = [minimized(slope, steps=steps, estimator=SMOOTHED) for steps in range(4)]
    grads = np.concatenate([run.population.grads[:, 0] for run in runs])
    assert len(np.unique(grads)) == len(grads) == 12


def test_the_path_is_the_same_in_chunks_and_in_rungs():
    whole = minimized(estimator=SMOOTHED, steps=6)
    for settings in ({"chunk_size": 1}, {"num_rungs": 3}):
        other = minimized(estimator=SMOOTHED, steps=6, **settings)
        chex.assert_trees_all_close(other.population.params, whole.population.params, rtol=1e-5)
        chex.assert_trees_all_close(other.population.grads, whole.population.grads, rtol=1e-4)


def test_other_agents_are_not_estimated_anew_when_a_rule_moves_one():
    def move_first(key, population, problem, state):
        params = jax.random.normal(key, population.params.shape)
        moved = jd.place_agents(population, population.ids == 0, params, problem)
        return moved, state, ()

    moving = jd.Rule(lambda key, population, problem: (), move_first)
    plain = minimized(estimator=SMOOTHED, steps=4, num_rungs=4)
    moved = minimized(estimator=SMOOTHED, steps=4, num_rungs=4, rule=moving)
    assert jnp.all(plain.population.params[0] != moved.population.params[0])
    chex.assert_trees_all_close(plain.population.params[1:], moved.population.params[1:])
    assert moved.population.evaluations.tolist() == [8 * 5, 5 * 5, 5 * 5]


def test_sigma_is_a_hyperparameter_of_each_agent_and_not_passed_to_the_optimizer():
    def quartic(x):  # smoothed: E (x + s z)^4 has the derivative 4 x^3 + 12 s^2 x
        return jnp.sum(x**4)

    sigmas, rates = jnp.array([0.1, 1.0, 2.0]), jnp.array([0.1, 0.1, 0.2])
    result = minimized(
        quartic, optax.sgd, init_params=jnp.ones((3, 1)), steps=1,
        estimator=jd.estimators.smoothed(0.5, 100_000, use_gradients=True),
        hyperparams={"learning_rate": rates, "sigma": sigmas},
    )  # fmt: skip
    expected = 1 - rates * (4 + 12 * sigmas**2)
    np.testing.assert_allclose(result.population.params[:, 0], expected, rtol=0.05)


def test_another_key_and_another_sigma_do_not_compile_again():
    traces = []

    def function(x):
        traces.append(x)
        return sphere(x)

    def count_traces(key, sigma):
        before = len(traces)
        # A new estimator that is made in the same way shares the program.
        estimator = jd.estimators.smoothed(0.1, 4)
        minimized(function, estimator=estimator, steps=2, key=key, hyperparams={"sigma": sigma})
        return len(traces) - before

    compiles, only_checks = count_traces(0, 0.1), count_traces(0, 0.1)
    assert compiles > only_checks == count_traces(1, 0.2)


@pytest.mark.parametrize("name", ["smoothed", "smoothed, gradients"])
def test_sigma_is_in_widths_of_the_box(name):
    def function(x, width):
        return jnp.sum(jnp.sin(3 * x / width))

    def final(width):
        corner = jnp.array([1.0, 2.0]) * width
        problem = jd.Problem(function, -corner, corner, data=(width,))
        found = minimized(
            problem, init_params=STARTS * width / 4, steps=5, num_rungs=1,
            estimator=ESTIMATORS[name].make(0.1, 4),
        )  # fmt: skip
        return found.population.params / width

    np.testing.assert_allclose(final(1.0), final(1024.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "bounds"), [("smoothed", "reflect"), ("smoothed, gradients", "project")]
)
def test_no_point_outside_of_the_bounds_is_evaluated(name, bounds):
    largest = []

    def recorded(x):
        jax.debug.callback(lambda x: largest.append(np.max(np.abs(x))), x)
        return jnp.sum(x**2)

    problem = jd.Problem(recorded, -jnp.ones(2), jnp.ones(2), bounds=bounds)
    result = minimized(
        problem, optax.sgd(0.01), init_params=jnp.array([[1.0, 1.0]]), steps=20, chunk_size=1,
        estimator=ESTIMATORS[name].make(0.5, 32),
    )  # fmt: skip
    jax.effects_barrier()
    assert len(largest) >= 21 * 33
    assert max(largest) == 1
    assert result.value < 2


def test_best_values_are_values_of_the_function_and_not_of_the_smoothed_one():
    result = minimized(estimator=jd.estimators.smoothed(3.0, 8), steps=5)
    np.testing.assert_allclose(result.value, sphere(result.params), rtol=1e-6)


def test_guided_es_takes_directions_from_a_surrogate():
    def surrogate(x):
        return jax.grad(lambda x: sphere(x - 0.1))(x)[None]

    guided = jd.estimators.guided_es(0.01, 4, surrogate=surrogate)
    result = minimized(estimator=guided, optimizer=optax.sgd(0.1), steps=100)
    assert result.value < 0.01
    with pytest.raises(ValueError, match=r"subspace must be a tree.*give guided_es a surrogate"):
        minimized(estimator=jd.estimators.guided_es(), steps=1)


DATA = {"x": jnp.linspace(-2, 2, 32)[:, None], "y": jnp.sin(jnp.linspace(-2, 2, 32))}


def network_loss(params, batch):
    hidden = jnp.tanh(batch["x"] * params["a"] + params["b"])
    return jnp.mean((hidden @ params["c"] - batch["y"]) ** 2)


def networks(count):
    keys = jax.random.split(jax.random.key(3), 3)
    return {name: jax.random.normal(key, (count, 4)) for name, key in zip("abc", keys, strict=True)}


def fitted(loss=network_loss, **settings):
    defaults = {
        "batch_size": 16, "num_rungs": 2, "rule": KEEP, "init_params": networks(2),
        "key": jax.random.key(0),
    }  # fmt: skip
    return jd.fit(loss, optax.adam(0.05), DATA, **(defaults | settings))


def test_fit_trains_networks_from_values_and_counts_them():
    estimator = jd.estimators.smoothed(0.05, 32)
    result = fitted(steps=200, estimator=estimator, validation_data=DATA)
    assert result.value < 0.1
    assert result.gradients == 0
    assert result.evaluations == 2 * (200 * 33 + 2)


def test_a_gradient_budget_of_fit_bounds_the_evaluations_of_batches():
    result = fitted(gradient_budget=100, num_rungs=1, estimator=SMOOTHED)
    assert (result.state.steps, result.evaluations) == (10, 100)


def test_aux_model_state_and_losses_of_fit_are_at_the_parameters_themselves():
    def loss(params, batch, model_state, key):
        count = model_state["count"] + 1
        return network_loss(params, batch), {"model_state": {"count": count}, "a": params["a"][0]}

    frozen = jd.fit(
        loss, optax.sgd(0.0), DATA, init_params=networks(2), key=jax.random.key(0), steps=4,
        num_rungs=2, batch_size=None, needs_rng=True, model_state={"count": jnp.zeros(2)},
        estimator=jd.estimators.smoothed(1.0, 4), rule=KEEP,
    )  # fmt: skip
    start = networks(2)
    assert frozen.population.model_state["count"].tolist() == [4, 4]
    np.testing.assert_allclose(frozen.history.aux["a"][-1], start["a"][:, 0], rtol=1e-6)
    losses = [network_loss(jax.tree.map(lambda x, i=i: x[i], start), DATA) for i in range(2)]
    np.testing.assert_allclose(frozen.history.aux["loss"][-1], losses, rtol=1e-5)


def test_all_samples_of_a_step_of_fit_see_the_same_random_numbers():
    """With noise of their own, differences of values would be divided by a tiny sigma."""

    def noisy(params, batch, key):
        return network_loss(params, batch) + jax.random.normal(key)

    estimator = jd.estimators.spsa(0.01, 2)
    plain = fitted(steps=20, estimator=estimator, batch_size=None)
    with_noise = fitted(noisy, steps=20, estimator=estimator, batch_size=None, needs_rng=True)
    chex.assert_trees_all_close(
        plain.population.params, with_noise.population.params, rtol=0.02, atol=0.02
    )


def tower():
    tune = {"learning_rate": jd.positive(1e-3)}
    return jd.hypergradient(optax.sgd, optax.adam(0.1), tune=tune)


@pytest.mark.parametrize("make", [tower, functools.partial(jd.self_tuning, optax.adam)])
def test_a_tower_trains_on_the_gradients_of_an_estimator(make):
    """On the smoothed gradient of a function whose own gradient is 0."""

    def stairs(x):
        return jnp.mean(jnp.abs(jnp.round(4 * x))) / 4

    tx, grad_fn = make(), jd.estimators.smoothed(0.3, 32).value_and_grad(stairs)

    def step(carry, key):
        x, state = carry
        value, grads = grad_fn(x, key=key)
        updates, state = tx.update(grads, state, x, value=value)
        return (optax.apply_updates(x, updates), state), value

    @jax.jit
    def train(x):
        return jax.lax.scan(step, (x, tx.init(x)), jax.random.split(jax.random.key(0), 400))

    (_, state), values = train(jnp.full(4, 2.0))
    assert values[0] == 2
    assert jnp.mean(values[-20:]) < 0.5
    assert jd.get_hyperparams(state)[0]["learning_rate"] > 1e-3


def test_an_estimator_must_be_one():
    for value in (jd.estimators.smoothed, jax.value_and_grad, 64):
        with pytest.raises(TypeError, match=r"estimator must be a jd.estimators.Estimator, got"):
            minimized(estimator=value, steps=1)
        with pytest.raises(TypeError, match=r"estimator must be a jd.estimators.Estimator, got"):
            fitted(estimator=value, steps=1)


def test_a_sigma_without_an_estimator_is_refused():
    with pytest.raises(ValueError, match="hyperparams must be keywords of the factory sgd"):
        minimized(optimizer=optax.sgd, steps=1, hyperparams={"learning_rate": 0.1, "sigma": 0.1})
