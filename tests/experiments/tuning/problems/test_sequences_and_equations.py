"""Sequences, equations, logistic regression and fine-tuning: exact answers of their functions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize

from experiments.data import tables
from experiments.tuning import adaptations
from experiments.tuning.generated import Moment
from experiments.tuning.problems import equations, fine_tuning, logistic, memory, networks

MOMENT = Moment(jnp.int32(0), jnp.float32(0.0))


def test_the_sum_has_one_marked_number_in_each_half():
    problem = memory.adding(length=10)
    (x, y), _ = problem.observe(None, (), jax.random.key(0), MOMENT)
    values, marks = np.asarray(x[..., 0]), np.asarray(x[..., 1])
    assert (marks[:, :5].sum(1) == 1).all()
    assert (marks[:, 5:].sum(1) == 1).all()
    np.testing.assert_allclose(y, (values * marks).sum(1), rtol=1e-6)


def test_recall_asks_for_the_first_symbol():
    (x, y), _ = memory.recall().observe(None, (), jax.random.key(0), MOMENT)
    np.testing.assert_array_equal(np.argmax(x[:, 0], -1), y)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_networks_follow_their_equations(name):
    gates = {"gru": 3, "lstm": 4}[name]
    params = memory._init_recurrent(jax.random.key(0), 2, 3, gates, 1)
    params["bias"] = jax.random.normal(jax.random.key(1), (3 * gates,))
    x = jax.random.normal(jax.random.key(2), (4, 5, 2))
    w, u, b = (np.asarray(params[each], np.float64) for each in ("input", "hidden", "bias"))
    h, c = np.zeros((4, 3)), np.zeros((4, 3))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for t in range(5):
        a, r = np.split(x[:, t] @ w + b, gates, 1), np.split(h @ u, gates, 1)
        if name == "gru":
            new = np.tanh(a[2] + sigmoid(a[0] + r[0]) * r[2])
            h = sigmoid(a[1] + r[1]) * h + (1 - sigmoid(a[1] + r[1])) * new
        else:
            write, keep, read, new = (i + j for i, j in zip(a, r, strict=True))
            c = sigmoid(keep) * c + sigmoid(write) * np.tanh(new)
            h = sigmoid(read) * np.tanh(c)
    found = getattr(memory, f"_{name}")(params, x)
    np.testing.assert_allclose(found, h @ params["output"], rtol=1e-4, atol=1e-5)


def test_the_loss_of_an_equation_is_1_without_a_network():
    for make in (equations.poisson, equations.burgers):
        problem = make()
        params = problem.init(jax.random.key(0))
        nothing = jax.tree.map(jnp.zeros_like, params)
        assert problem.loss(nothing, ()) == pytest.approx(1.0, rel=1e-5)
        assert problem.score(nothing, MOMENT) == pytest.approx(1.001, rel=1e-5)


def test_the_residual_vanishes_at_the_solution_of_poissons_equation(monkeypatch):
    def solution(params, x):
        x = x[0]
        u = jnp.sin(jnp.pi * x) + jnp.sin(4 * jnp.pi * x) / 4
        return u / (x * (1 - x))

    monkeypatch.setattr(equations, "_network", solution)
    assert equations.poisson().loss(None, ()) < 1e-6


def test_the_residual_of_burgers_equation_vanishes_at_a_moving_front():
    def front(t, x):
        return 1 - jnp.tanh((x - t) / (2 * equations.VISCOSITY))

    t, x = jnp.full(41, 0.3), jnp.linspace(-0.5, 1.0, 41)
    found = jax.vmap(partial(equations.burgers_residual, front))(t, x)
    np.testing.assert_allclose(found, 0.0, atol=1e-4)
    wrong = jax.vmap(partial(equations.burgers_residual, lambda t, x: front(-t, x)))(t, x)
    assert np.max(np.abs(wrong)) > 1.0


def test_the_minimum_of_logistic_regression_is_scipys():
    data = tables.breast_cancer()
    inputs, labels = data.normalized(data.train)
    x = np.concatenate([inputs, np.ones((341, 1))], 1) * (2.0 * labels[:, None] - 1)

    def value(w):
        return np.logaddexp(0, -x @ w).mean() + logistic.RIDGE / 2 * w @ w

    found = optimize.minimize(value, np.zeros(31), method="BFGS", options={"gtol": 1e-8})
    assert logistic.minimum(x) == pytest.approx(found.fun, abs=1e-9)
    problem = logistic.breast_cancer()
    assert problem.score(jnp.zeros(31), MOMENT) == pytest.approx(1.0001, rel=1e-5)
    assert problem.score(jnp.asarray(found.x, jnp.float32), MOMENT) == pytest.approx(1e-4, abs=3e-6)


def test_the_score_of_the_low_rank_map_is_the_mean_loss_of_many_batches():
    problem = fine_tuning.low_rank_regression()
    params = problem.init(jax.random.key(0))
    params["B"] = jax.random.normal(jax.random.key(1), (2, 16))

    def loss(key):
        return problem.loss(params, problem.observe(params, (), key, MOMENT)[0])

    losses = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(2), 2000))
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - problem.score(params, MOMENT)) < 4 * error


def test_low_rank_changes_begin_at_the_trained_network_which_knows_upright_digits_only():
    problem = fine_tuning.rotated_digits()
    first, second = problem.init(jax.random.key(0)), problem.init(jax.random.key(1))
    assert problem.score(first, MOMENT) == pytest.approx(float(problem.score(second, MOMENT)))
    assert problem.score(first, MOMENT) > 2.0  # worse than chance
    upright, _ = fine_tuning.digits.load()
    assert problem.loss(first, upright) < 0.2


def test_new_digits_are_5_to_9_and_the_network_is_trained_on_0_to_4():
    problem = fine_tuning.new_digits()
    params = jax.jit(problem.init)(jax.random.key(0))
    (old, labels), _ = fine_tuning.digits.load(classes=range(5))
    features = jax.nn.relu(old @ params[0][0] + params[0][1])
    fresh = jax.nn.relu(old @ networks.init_layers(jax.random.key(1), (64, 64, 5))[0][0])
    assert sorted({*np.asarray(labels).tolist()}) == [0, 1, 2, 3, 4]
    # The trained features separate the old digits better than random ones.
    errors = [_least_squares_error(x, labels) for x in (features, fresh)]
    assert errors[0] < errors[1]
    assert 1.0 < problem.score(params, MOMENT) < 6.0


def _least_squares_error(features, labels):
    x, y = np.asarray(features, np.float64), np.eye(5)[np.asarray(labels)]
    return np.mean((x @ np.linalg.lstsq(x, y)[0] - y) ** 2)


def test_shuffled_parts_hold_the_same_examples_once():
    from experiments import tasks

    task = tasks.load("digits", tasks.ModelConfig("mlp", width=4))
    mixed = adaptations.shuffled(task)
    parts = [(each.train, each.validation, each.test) for each in (task, mixed)]
    before, after = (
        np.concatenate([part.arrays.inputs.reshape(-1, 64) for part in each]) for each in parts
    )
    assert [part.examples for part in parts[1]] == [1078, 359, 360]
    assert (before != after).any()
    np.testing.assert_array_equal(np.unique(before, axis=0), np.unique(after, axis=0))


def test_pretraining_lowers_the_loss():
    def loss(params, key):
        return jnp.sum((params - 1) ** 2)

    found = networks.train(loss, jnp.zeros(2), jax.random.key(0), 500, learning_rate=1e-2)
    np.testing.assert_allclose(found, 1.0, atol=1e-2)


def test_an_autoencoder_is_judged_by_its_squared_error_of_pixels():
    from experiments import tasks

    pixels = np.arange(24, dtype=np.uint8).reshape(3, 2, 4, 1) * 10
    digits = tasks.load("digits", tasks.ModelConfig("mlp", width=4))
    images = digits._replace(
        train=digits.train._replace(arrays=digits.train.arrays._replace(inputs=pixels))
    )
    task = adaptations.autoencoding(images)
    batch = task.prepare(task.train.arrays)
    np.testing.assert_allclose(batch, pixels.reshape(3, 8) / 255, rtol=1e-6)
    model = task.build(nnx.Rngs(0))
    outputs = model(batch)
    assert ((outputs > 0) & (outputs < 1)).all()
    expected = np.mean((np.asarray(outputs) - pixels.reshape(3, 8) / 255) ** 2, 1)
    np.testing.assert_allclose(task.scores(model, batch, None)["loss"], expected, rtol=1e-5)
