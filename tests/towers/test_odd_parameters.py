"""Parameters of every dtype and form, and strict dtype promotion."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.towers.stepping import GRADS, RATE, START, assert_close, made, rates, run


def clean_momentum(learning_rate, b1):
    def update(updates, buffer, params=None):
        buffer = jax.tree.map(lambda b, g: b1 * b + g, buffer, updates)
        return jax.tree.map(lambda b: -learning_rate * b, buffer), buffer

    return optax.GradientTransformation(partial(jax.tree.map, jnp.zeros_like), update)


@pytest.mark.parametrize(
    ("dtype", "start"), [(jnp.float32, jd.per_leaf(0.1)), (jnp.bfloat16, jd.positive(0.1))]
)
def test_our_code_needs_no_implicit_dtype_promotion(dtype, start):
    descent = optax.stateless(lambda updates, _: jax.tree.map(lambda g: -0.125 * g, updates))
    tune = {"learning_rate": start, "b1": 0.9}
    upper = jd.hypergradient(clean_momentum, descent, tune={"learning_rate": 0.1, "b1": 0.9})
    tx = jd.hypergradient(clean_momentum, upper, tune=tune)
    grads = jnp.asarray(GRADS, dtype)
    with jax.numpy_dtype_promotion("strict"):
        path, states = run(
            tx, jnp.asarray(START, dtype), grads, outer_grads=grads, value=GRADS[:, 0]
        )
    assert path.dtype == dtype
    assert all(np.ptp(rate) > 0 for rate in rates(states))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["bfloat16"], "float32"),
        (["float16", "float32"], "float32"),
        (["complex64"], "float32"),
        (["bfloat16", "float64"], "float64"),
        (["complex128"], "float64"),
    ],
    ids=str,
)
def test_hyperparameters_are_single_unless_a_parameter_is_double(dtypes, expected):
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={**RATE, "b1": jd.per_leaf(0.9)})

    def step(params):
        return tx.update(params, tx.init(params))

    with jax.enable_x64(True):
        params = [jnp.ones(2, dtype) for dtype in dtypes]
        updates, state = jax.eval_shape(step, params)
        (learned,) = jax.eval_shape(jd.get_hyperparams, state)
    assert [u.dtype for u in updates] == dtypes
    assert {x.dtype for x in jax.tree.leaves(learned)} == {jnp.dtype(expected)}


def with_an_empty_leaf(x):
    return {"x": x, "empty": jnp.zeros((*x.shape[:-1], 0, 3))}


ODD_PARAMETERS = {
    "a leaf without elements": (with_an_empty_leaf, 0.1),
    "a leaf without elements, per leaf": (with_an_empty_leaf, jd.per_leaf(0.1)),
    "a leaf that is None": (lambda x: {"x": x, "none": None}, 0.1),
    "a leaf that is None, per leaf": (lambda x: {"x": x, "none": None}, jd.per_leaf(0.1)),
    "scalars": (lambda x: {"x": [x[..., i] for i in range(3)]}, 0.1),
    "one array, per leaf": (lambda x: x, jd.per_leaf(0.1)),
}


@pytest.mark.parametrize("what", ODD_PARAMETERS)
def test_odd_parameters_train_like_the_same_numbers_in_one_array(what):
    arrange, start = ODD_PARAMETERS[what]
    tune = {"learning_rate": start, "b1": 0.9}
    tx = jd.hypergradient(optax.adam, optax.sgd(0.01), tune=tune)
    path, states = run(tx, arrange(START), arrange(GRADS))
    expected, expected_states = run(made("adam", 0.01), START, GRADS)
    numbers = path["x"] if isinstance(path, dict) else path
    assert_close(np.stack(numbers, 1) if what == "scalars" else numbers, expected, 1e-5)

    def b1(states):
        return jd.get_hyperparams(states)[0]["b1"]

    assert_close(b1(states), b1(expected_states), 1e-5)


@pytest.mark.parametrize("start", [0.1, jd.per_leaf(0.1)], ids=["shared", "per leaf"])
def test_without_parameters_nothing_changes(start):
    tx = jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": start, "b1": 0.9})
    state = tx.init({})
    for count in (1, 2):
        updates, state = jax.jit(tx.update)({}, state, {})
        assert updates == {}
        assert int(state.hyper_state[0].count) == count
    np.testing.assert_allclose(jd.get_hyperparams(state)[0]["b1"], 0.9, rtol=1e-6)
    assert (int(state.skipped), int(state.masked), int(state.rejected)) == (0, 0, 0)
