"""Activations and the loss as a function in the loop, against loops written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd
from tests.streaming.plasticity.networks import LAYERS, SIZES, batches, forward, network

S = jd.streaming
KEY = jax.random.key(0)
X = np.asarray(batches(12)).reshape(-1, SIZES[0])
Y = np.sin(X[:, :3])


def squared_error(prediction, y):
    return jnp.mean((prediction - y) ** 2)


def make(optimizer, predict=forward, **settings):
    settings = {"features": SIZES[0], "batch_size": 4, "has_activations": True, **settings}
    return S.online_loop(predict, squared_error, optimizer, **settings)


def redo(**settings):
    settings = {"threshold": 0.6, "period": 4, **settings}
    return S.redo(optax.adam(0.01), LAYERS, KEY, **settings)


def continual_backprop():
    return S.continual_backprop(
        S.elementwise_adam(0.01), LAYERS, KEY, replacement_rate=0.05, maturity=3
    )


def replaced(opt_state):
    """Returns the number of replaced units in each layer."""
    if isinstance(opt_state, S.RedoState):
        return np.asarray(opt_state.replaced)
    return np.stack([layer.replaced for layer in opt_state.layers])


def run(loop, x, y, length, state=None):
    state = loop.init(network()) if state is None else state
    for chunk in S.chunks((x, y), length):
        state, _ = loop.run(state, chunk)
    return state


def by_hand(optimizer, x, y, size):
    """Trains on batches in turn, one compiled step after another."""

    @jax.jit
    def step(params, state, x, y):
        def objective(params):
            predictions, activations = jax.vmap(forward, (None, 0))(params, x)
            return jnp.mean(jax.vmap(squared_error)(predictions, y)), activations

        grads, activations = jax.grad(objective, has_aux=True)(params)
        updates, state = optimizer.update(grads, state, params, activations=activations)
        return optax.apply_updates(params, updates), state

    params = network()
    state = optimizer.init(params)
    for i in range(0, len(x), size):
        params, state = step(params, state, x[i : i + size], y[i : i + size])
    return params, state


def values(tree):
    """Returns a tree with random keys as arrays."""
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


@pytest.mark.parametrize("optimizer", [redo(), continual_backprop()], ids=["redo", "continual"])
def test_units_are_replaced_as_in_a_loop_written_by_hand_to_the_bit(optimizer):
    state = run(make(optimizer), X, Y, 16)
    params, opt_state = by_hand(optimizer, X, Y, 4)
    assert (replaced(opt_state) > 0).all()
    jax.tree.map(
        np.testing.assert_array_equal,
        values((state.params, state.opt_state)),
        values((params, opt_state)),
    )


def keeps_activations():
    """An optimizer whose state is the activations of the last update."""

    def init(params):
        return [jnp.full((4, size), -1.0) for size in SIZES[1:-1]]

    def update(grads, state, params=None, *, activations, **extra):
        return jax.tree.map(jnp.zeros_like, grads), activations

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize(
    ("invalid", "rows"), [([], [0, 1, 2, 3]), ([0, 2], [1, 3, 1, 3]), ([1], [0, 2, 3, 0])]
)
def test_valid_rows_stand_in_for_the_others_of_a_batch(invalid, rows):
    x = X[:4].copy()
    x[invalid] = np.nan
    state = run(make(keeps_activations()), x, Y[:4], 4)
    assert int(state.examples) == 4 - len(invalid)
    _, expected = forward(network(), X[rows])
    for found, wanted in zip(state.opt_state, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_activations_belong_to_the_example_whose_label_has_arrived():
    def first_output(params, x):
        outputs, activations = forward(params, x)
        return outputs[0], [jnp.stack([h] * 4) for h in activations]

    for settings in ({}, {"gradient_of": "prediction"}):
        settings |= {"batch_size": 1, "label_delay": 2, "predict": first_output}
        loop = make(keeps_activations(), **settings)
        state = run(loop, X[:2], Y[:2, 0], 5)
        assert (np.asarray(state.opt_state[0]) == -1).all()
        state = run(loop, X[2:5], Y[2:5, 0], 5, state)
        _, expected = forward(network(), X[2])
        for found, wanted in zip(state.opt_state, expected, strict=True):
            np.testing.assert_allclose(found, jnp.stack([wanted] * 4), rtol=1e-5, atol=1e-6)


def test_a_prediction_comes_with_activations_for_measurements():
    params = network()
    params[0]["bias"] = params[0]["bias"].at[1].set(-100.0)
    loop = make(redo())
    state = loop.init(params)
    prediction, hidden = jax.vmap(lambda x: loop.predict(state, x))(X)
    np.testing.assert_allclose(prediction, forward(params, X)[0], rtol=1e-5, atol=1e-6)
    assert np.flatnonzero(S.dormant_units(hidden[0])).tolist() == [1]


def test_random_keys_in_the_state_resume_to_the_bit(tmp_path):
    loop = make(redo())
    whole = run(loop, X, Y, 12)
    half = run(loop, X[:24], Y[:24], 12)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", half)
        checkpointer.wait_until_finished()
        half = checkpointer.restore(tmp_path / "state", loop.init(network()))
    before = replaced(half.opt_state).sum()
    resumed = run(loop, X[24:], Y[24:], 12, half)
    assert replaced(resumed.opt_state).sum() > before > 0
    jax.tree.map(np.testing.assert_array_equal, values(whole), values(resumed))


LOSS_FUNCTIONS = {
    "ader": S.ader(2.0, 2.0, horizon=12, surrogate=False),
    "line search": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10)),
}


@pytest.mark.parametrize("name", LOSS_FUNCTIONS)
def test_the_loss_as_a_function_reaches_the_optimizer(name):
    optimizer = LOSS_FUNCTIONS[name]

    def predict(w, x):
        return x @ w

    loop = make(optimizer, predict, has_activations=False)
    state = loop.init(jnp.zeros((5, 3)))
    state, _ = loop.run(state, (X, Y))

    @jax.jit
    def step(w, opt_state, x, y):
        def objective(w):
            return jnp.mean((x @ w - y) ** 2)

        value, grads = jax.value_and_grad(objective)(w)
        updates, opt_state = optimizer.update(
            grads, opt_state, w, value=value, grad=grads, value_fn=objective
        )
        return optax.apply_updates(w, updates), opt_state

    w = jnp.zeros((5, 3))
    opt_state = optimizer.init(w)
    for i in range(0, len(X), 4):
        w, opt_state = step(w, opt_state, X[i : i + 4], Y[i : i + 4])
    assert float(jnp.max(jnp.abs(w))) > 0.05
    np.testing.assert_allclose(state.params, w, rtol=1e-4, atol=1e-6)


def test_wrong_uses_are_refused_and_leave_the_state():
    with pytest.raises(ValueError, match="has_activations must be True or False, got 'h'"):
        make(optax.sgd(0.1), has_activations="h")
    loop = make(optax.sgd(0.1), lambda params, x: forward(params, x)[0])
    with pytest.raises(TypeError, match="predict, with has_activations=True, must return a tuple"):
        loop.init(network())
    loop = make(redo(), lambda params, x: forward(params, x)[0], has_activations=False)
    state = loop.init(network())
    with pytest.raises(ValueError, match="online_loop passes them with has_activations=True"):
        loop.run(state, (X, Y))
    assert int(state.examples) == 0
