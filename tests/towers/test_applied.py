"""Updates that are not applied as a tower returned them are detected, and no rate runs away."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers.applied import compare, sample

pytestmark = pytest.mark.usefixtures("quick_to_compile")

OLD, U, G = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, -0.2, 0.3]), jnp.array([1.0, 1.0, -1.0])


def compared(step, old=OLD, u=U, g=G):
    altered, factor = compare(sample(old, u), old + step, g)
    return bool(altered), float(factor)


def test_an_update_that_was_applied_is_not_altered_and_rounding_does_not_count():
    for dtype in (jnp.float32, jnp.bfloat16):
        old, u, g = (x.astype(dtype) for x in (OLD, U, G))
        assert not compare(sample(old, u), optax.apply_updates(old, u), g)[0]


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0.5 * U, 0.5),
        (3 * U, 1.0),
        (-0.5 * U, -0.5),
        (U * jnp.array([1.0, 0.0, 1.0]), 0.5),  # the effects are -0.2 of the step, -0.4 of u
        (0.009 * U, 0.0),
        (101 * U, 0.0),
        (0 * U, 0.0),
    ],
)
def test_the_factor_is_the_ratio_of_the_effects_and_0_for_steps_of_another_size(step, factor):
    altered, found = compared(step)
    assert altered
    np.testing.assert_allclose(found, factor, rtol=1e-4)


def test_parameters_that_are_unknown_count_as_applied():
    assert not compare(sample(None, U), OLD, G)[0]
    assert not compare(sample(OLD, U), None, G)[0]


def loss(params):
    return jnp.sum(jnp.array([1.0, 10.0]) * (params["w"] - 1) ** 2) + jnp.sum(params["b"] ** 2)


def train(tx, steps=250, project=lambda x: x, dtype=jnp.float32):
    """Returns the losses, and the last state."""

    def body(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value.astype(jnp.float32))
        params = jax.tree.map(project, optax.apply_updates(params, updates))
        return (params, state), value

    params = {"w": jnp.full(2, 3.0, dtype), "b": jnp.ones((), dtype)}
    (_, state), losses = jax.lax.scan(body, (params, tx.init(params)), length=steps)
    return losses, state


def adam_tower():
    return jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 1e-3})


def self_tuning_adam():
    return jd.self_tuning(optax.adam)


AFTER = {
    "clip": optax.clip_by_global_norm(0.01),
    "ema": optax.ema(0.9),
    "trace": optax.trace(0.9),
    "scale by 0.1": optax.scale(0.1),
    "scale by 0": optax.scale(0.0),
    "decay": optax.add_decayed_weights(1e-2),
}


def tower_state(state):
    return jax.tree.leaves(state, is_leaf=is_tower_state)[0]


def is_tower_state(node):
    return isinstance(node, jd.HypergradientState)


@pytest.mark.parametrize("make", [adam_tower, self_tuning_adam])
@pytest.mark.parametrize("after", AFTER)
def test_no_transformation_after_a_tower_makes_the_rate_run_away(after, make):
    losses, state = jax.jit(lambda: train(optax.chain(make(), AFTER[after])))()
    assert tower_state(state).altered > 200
    assert jd.get_hyperparams(state)[0]["learning_rate"] < 30
    assert losses[-1] < 1e3 * losses[0]  # 1e15 and more without the detection


def test_a_projection_in_the_training_loop_is_detected():
    losses, state = jax.jit(lambda: train(adam_tower(), project=lambda x: jnp.clip(x, 2.0, 4.0)))()
    assert state.altered > 0
    assert jd.get_hyperparams(state)[0]["learning_rate"] < 30
    assert losses[-1] <= losses[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.MultiSteps(tx, 2),
        lambda tx: optax.masked(tx, {"w": True, "b": True}),
        lambda tx: optax.chain(optax.clip_by_global_norm(0.1), tx),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_wrappers_that_apply_updates_as_returned_are_no_false_alarm(wrap, dtype):
    _, state = jax.jit(lambda: train(wrap(adam_tower()), 20, dtype=dtype))()
    assert tower_state(state).altered == 0


def test_a_copy_of_a_tower_with_another_update_keeps_its_parts():
    tower = adam_tower()
    copy = tower._replace(update=tower.update)
    assert (copy.spec, copy.hyper_optimizer) == (tower.spec, tower.hyper_optimizer)


def test_a_tower_remembers_a_bounded_number_of_shapes(monkeypatch):
    monkeypatch.setattr("jaxdescent.towers.spec._MAX_ANALYSES", 2)
    tower = adam_tower()
    for size in (1, 2, 3, 4):
        tower.spec.analyze(jnp.ones(size))
    assert len(tower.spec._analyses) == 2
