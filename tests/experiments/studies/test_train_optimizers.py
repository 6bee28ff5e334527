"""The optimizers of a training run: each one learns, and is evaluated where it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import runner
from experiments.methods.optimizers import OPTIMIZERS, schedule_free_average
from experiments.studies.train import Settings
from experiments.studies.train.training import averages_of, make_evaluator, optimizer
from tests.experiments.studies.test_train_statistics import SEEDS, small_task

PARAMS = {"w": jnp.full((3, 2), 2.0), "b": jnp.ones(2)}


def loss_of(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def descend(tx, steps):
    """Returns the loss before each step and after the last."""

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), value

    carry, losses = jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=steps)
    return jnp.append(losses, loss_of(carry[0]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_the_registry_lowers_the_loss_at_its_default_learning_rate(name):
    settings = Settings(optimizer=name)
    tx = optax.with_extra_args_support(optimizer(settings, 30))
    losses = np.asarray(jax.jit(descend, static_argnums=(0, 1))(tx, 30))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [name for name, each in OPTIMIZERS.items() if not each.remedy])
@pytest.mark.parametrize("learner", [{"tower": 1}, {"self_tuning": True}])
def test_all_others_learn_their_learning_rate(name, learner):
    tx = optax.with_extra_args_support(optimizer(Settings(optimizer=name, **learner), 30))
    assert jax.eval_shape(lambda: descend(tx, 3)).shape == (4,)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("prodigy", {"tower": 1}, "--tower must be left out with prodigy, which finds its learni"),
        ("schedule_free", {"self_tuning": True}, "--self-tuning must be left out with schedule_f"),
        ("prodigy", {"schedule": "cosine"}, "--schedule must be constant with prodigy, which find"),
        ("schedule_free", {"schedule": "cosine"}, "--schedule must be constant with schedule_free"),
        ("muon", {"b2": 0.9}, "--b2 must be left out with muon"),
    ],
)
def test_what_would_change_a_learning_rate_twice_is_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(optimizer=name, **settings)


def test_the_default_learning_rate_is_the_optimizer_s():
    assert Settings().learning_rate == 1e-3
    assert Settings(optimizer="prodigy").learning_rate == 1
    assert Settings(optimizer="prodigy", learning_rate=0.5).learning_rate == 0.5


def test_schedule_free_is_evaluated_at_the_mean_of_its_base_iterates():
    tx = optimizer(Settings(optimizer="schedule_free", learning_rate=0.1, clip=1.0), 4)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss_of)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state, iterates = PARAMS, jax.jit(tx.init)(PARAMS), []
    for _ in range(4):
        params, state = step(params, state)
        iterates.append(np.asarray(state[1].z["w"]))
    average = schedule_free_average(state, params)["w"]
    np.testing.assert_allclose(average, np.mean(iterates, 0), rtol=1e-5)
    assert not np.allclose(average, params["w"], rtol=1e-3)


def test_each_network_is_evaluated_at_its_own_schedule_free_average():
    task = small_task()
    settings = Settings(optimizer="schedule_free", learning_rate=0.3, seeds=SEEDS)
    trainer = runner.trainer(task.build, task.batch_of, task.scores, optimizer(settings, 3))
    state = trainer.start(jax.random.split(jax.random.key(0), SEEDS))
    feed = np.arange(3 * SEEDS * 8, dtype=np.int32).reshape(3, SEEDS, 8)
    state, _ = jax.jit(trainer.chunk)(state, feed, task.train.arrays)
    model = make_evaluator(trainer, task, settings).model_of(state, averages_of(settings))
    for i in range(SEEDS):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (state.opt_state, state.params))
        expected = schedule_free_average(*one)
        jax.tree.map(
            lambda own, other, i=i: np.testing.assert_allclose(own[i], other, rtol=1e-5, atol=1e-6),
            model["params"],
            expected,
        )
    before = jax.tree.leaves(state.model_state["norm"])
    assert any(
        not np.allclose(old, new)
        for old, new in zip(before, jax.tree.leaves(model["model_state"]["norm"]), strict=True)
    )
