"""Continual backpropagation against a loop in NumPy, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.streaming.plasticity.networks import LAYERS, batches, forward, loss, network, step, train

RATE, DECAY, MATURITY = 1 / 32, 0.9, 5  # a rate without rounding


def method(tx=None, **settings):
    settings = {"replacement_rate": RATE, "decay": DECAY, "maturity": MATURITY, **settings}
    tx = optax.sgd(0.05) if tx is None else tx
    return jd.streaming.continual_backprop(tx, LAYERS, jax.random.key(0), **settings)


class Reference:
    """The published loop, unit by unit, in float64; new weights are given to it."""

    def __init__(self, units):
        self.age = [np.zeros(n, int) for n in units]
        self.utility = [np.zeros(n) for n in units]
        self.mean = [np.zeros(n) for n in units]
        self.budget = [0.0 for n in units]
        self.replacements = []

    def step(self, params, activations, fresh):
        """Changes the parameters after an update, as the method does."""
        chosen = []
        for i, h in enumerate(activations):
            w, v = params[i]["kernel"], params[i + 1]["kernel"]
            self.age[i] += 1
            correction = 1 - DECAY ** self.age[i]
            self.mean[i] = DECAY * self.mean[i] + (1 - DECAY) * h.mean(0)
            for unit in range(len(self.age[i])):
                center = self.mean[i][unit] / correction[unit]
                contribution = np.abs(h[:, unit] - center).mean() * np.abs(v[unit]).mean()
                contribution /= np.abs(w[:, unit]).mean()
                self.utility[i][unit] *= DECAY
                self.utility[i][unit] += (1 - DECAY) * contribution
            mature = [unit for unit, age in enumerate(self.age[i]) if age > MATURITY]
            self.budget[i] += RATE * len(mature)
            ranked = sorted(mature, key=lambda unit: self.utility[i][unit] / correction[unit])
            worst = []
            while self.budget[i] >= 1 and ranked:
                self.budget[i] -= 1
                worst.append(ranked.pop(0))
            chosen.append(worst)
        for i, worst in enumerate(chosen):
            correction = 1 - DECAY ** self.age[i]
            for unit in worst:
                mean = self.mean[i][unit] / correction[unit]
                params[i + 1]["bias"] += mean * params[i + 1]["kernel"][unit]
                params[i]["kernel"][:, unit] = fresh[i][:, unit]
                params[i]["bias"][unit] = 0
                params[i + 1]["kernel"][unit] = 0
                self.age[i][unit] = self.utility[i][unit] = self.mean[i][unit] = 0
                self.replacements.append((i, unit))


def new_weights(key, params):
    """Returns the incoming weights that a step draws with a state's key."""
    keys = jax.random.split(jax.random.split(key)[1], 2)
    draw = jax.nn.initializers.he_uniform()
    return [
        np.asarray(draw(key, layer["kernel"].shape, jnp.float32), float)
        for key, layer in zip(keys, params, strict=False)
    ]


def test_units_are_replaced_as_in_a_loop_over_units():
    params = network()
    tx = method()
    state = tx.init(params)
    reference = Reference([8, 6])
    one_step = jax.jit(lambda params, state, x: step(tx, params, state, x))
    for x in batches(60):
        grads, activations = jax.grad(loss, has_aux=True)(params, x)
        moved = [
            {name: np.array(p[name], float) - 0.05 * np.array(g[name], float) for name in p}
            for p, g in zip(params, grads, strict=True)
        ]
        hidden = [np.asarray(h, float) for h in activations]
        reference.step(moved, hidden, new_weights(state.key, params))
        params, state = one_step(params, state, x)
        for layer, expected in zip(params, moved, strict=True):
            for name, values in expected.items():
                np.testing.assert_allclose(layer[name], values, atol=2e-6, err_msg=name)
        for statistics, age, utility in zip(
            state.layers, reference.age, reference.utility, strict=True
        ):
            np.testing.assert_array_equal(statistics.age, age)
            np.testing.assert_allclose(statistics.utility, utility, rtol=2e-4, atol=1e-6)
    count = [sum(layer == i for layer, _ in reference.replacements) for i in (0, 1)]
    assert min(count) > 5
    assert [int(layer.replaced) for layer in state.layers] == count


def test_a_budget_below_one_is_kept_for_later_steps():
    tx = method(replacement_rate=0.01, maturity=0)  # 8 * 0.01 in a step: one unit in 13 steps
    _, state = train(tx, network(), tx.init(network()), batches(30))
    assert int(state.layers[0].replaced) == 2  # floor(30 * 8 * 0.01), no rounding in between
    assert int(state.layers[1].replaced) == 1  # floor(30 * 6 * 0.01)
    assert float(state.layers[0].budget) == pytest.approx(0.4, abs=1e-4)


def test_no_unit_is_replaced_before_it_is_mature():
    tx = method(replacement_rate=1.0, maturity=30)
    _, state = train(tx, network(), tx.init(network()), batches(30))
    assert int(state.layers[0].replaced) == 0
    _, state = train(tx, network(), tx.init(network()), batches(31))
    assert int(state.layers[0].replaced) == 8


def test_replacing_units_of_constant_activation_keeps_the_outputs():
    params = network()
    params[0]["kernel"] *= 0
    params[0]["bias"] = jnp.abs(params[0]["bias"]) + 0.1  # activations of the first layer
    layers = LAYERS[:1]
    tx = jd.streaming.continual_backprop(
        optax.sgd(0.0), layers, jax.random.key(0), replacement_rate=0.25, maturity=0
    )
    x = batches(1)[0]
    before, activations = forward(params, x)
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, state = tx.update(grads, tx.init(params), params, activations=activations[:1])
    after = optax.apply_updates(params, updates)
    assert int(state.layers[0].replaced) == 2
    np.testing.assert_allclose(forward(after, x)[0], before, atol=1e-6)
    without = [after[0], {**after[1], "bias": params[1]["bias"]}, after[2]]
    assert float(jnp.max(jnp.abs(forward(without, x)[0] - before))) > 1e-2


def test_without_replacement_the_updates_are_the_optimizers():
    plain = optax.adam(1e-2)
    tx = method(plain, replacement_rate=0.0)
    update, plain_update = jax.jit(tx.update), jax.jit(plain.update)
    params, state, plain_state = network(), tx.init(network()), plain.init(network())
    for x in batches(10):
        grads, activations = jax.grad(loss, has_aux=True)(params, x)
        updates, state = update(grads, state, params, activations=activations)
        expected, plain_state = plain_update(grads, plain_state, params)
        # A difference of rounded parameters would be 10 times as far from it.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)
        params = optax.apply_updates(params, updates)


def test_an_eager_loop_compiles_its_update_once():
    traces = []

    def update(updates, state, params=None):
        traces.append(updates)
        return optax.sgd(0.1).update(updates, state, params)

    inner = optax.GradientTransformation(optax.sgd(0.1).init, update)
    for tx in (method(inner), jd.streaming.redo(inner, LAYERS, jax.random.key(0))):
        params, state = network(), tx.init(network())
        traces.clear()
        for x in batches(3):
            grads, activations = jax.grad(loss, has_aux=True)(params, x)
            updates, state = tx.update(grads, state, params, activations=activations)
            params = optax.apply_updates(params, updates)
        assert len(traces) == 1


@pytest.mark.parametrize("average", [False, True])
def test_the_state_begins_anew_at_replaced_weights(average):
    inner = jd.streaming.elementwise_adam(1e-2)
    inner = jd.with_average(inner) if average else inner
    tx = method(inner, replacement_rate=0.5, maturity=9)
    params, state = train(tx, network(), tx.init(network()), batches(10))
    chosen = np.asarray(state.layers[0].age) == 0
    assert chosen.sum() == 4
    adam = state.inner_state.inner_state if average else state.inner_state
    # Units of the second layer are replaced, too; their columns begin anew as well.
    columns = np.asarray(state.layers[1].age) == 0
    for tree, old in ((adam.counts, 10), (adam.mu, None), (adam.nu, None)):
        kernel, outgoing = np.asarray(tree[0]["kernel"]), np.asarray(tree[1]["kernel"])
        assert np.all(kernel[:, chosen] == 0)
        assert np.all(outgoing[chosen] == 0)
        assert np.all(tree[0]["bias"][chosen] == 0)
        if old:
            assert np.all(kernel[:, ~chosen] == old)
            assert np.all(outgoing[np.ix_(~chosen, ~columns)] == old)
    if average:
        average = state.inner_state.average
        gap = np.max(np.abs(average[0]["kernel"] - params[0]["kernel"]), axis=0)
        assert np.max(gap[chosen]) < 1e-6 < 1e-3 < np.min(gap[~chosen])


def test_activations_that_are_not_finite_change_no_statistics():
    tx, params = method(replacement_rate=1.0, maturity=0), network()
    state = tx.init(params)
    grads = jax.tree.map(jnp.zeros_like, params)
    hidden = forward(params, batches(1)[0])[1]
    bad = [hidden[0].at[0, 0].set(jnp.nan), hidden[1]]
    updates, after = tx.update(grads, state, params, activations=bad)
    jax.tree.map(np.testing.assert_array_equal, after.layers[0], state.layers[0])
    assert np.all(np.isfinite(jnp.concatenate([x.ravel() for x in jax.tree.leaves(updates)])))
    assert int(after.layers[1].replaced) == 6  # the other layer goes on


def test_it_trains_under_vmap_and_scan_as_in_a_loop():
    tx = method(optax.adam(1e-2))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), network(0), network(1))
    inputs = batches(30)
    params, state = jax.jit(jax.vmap(lambda params: train(tx, params, tx.init(params), inputs)))(
        stacked
    )
    for i in (0, 1):
        expected, expected_state = network(i), tx.init(network(i))
        expected, expected_state = train(tx, expected, expected_state, inputs[:20])
        # A state goes on in mid-stream.
        expected, expected_state = train(tx, expected, expected_state, inputs[20:])
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i], y, atol=1e-5), params, expected
        )
        np.testing.assert_array_equal(state.layers[0].age[i], expected_state.layers[0].age)


def test_convolutions_are_hidden_layers():
    params = {"a": jnp.ones((3, 3, 2, 4)), "b": jnp.ones((3, 3, 4, 5)), "c": jnp.zeros(5)}
    layer = jd.streaming.HiddenLayer("a", "b", next_bias="c")
    tx = jd.streaming.continual_backprop(
        optax.sgd(0.1), [layer], jax.random.key(0), replacement_rate=0.25, maturity=0
    )
    grads = jax.tree.map(jnp.zeros_like, params)
    h = jnp.ones((2, 7, 7, 4)).at[..., 2].set(0.5)
    h = h.at[0, 0, 0, jnp.array([0, 1, 3])].add(1.0)  # unit 2 is constant
    updates, _ = tx.update(grads, tx.init(params), params, activations=[h])
    after = optax.apply_updates(params, updates)
    assert np.all(after["b"][:, :, 2] == 0)
    assert np.all(after["b"][:, :, [0, 1, 3]] == 1)
    np.testing.assert_allclose(after["c"], 0.5 * 9, rtol=1e-5)
    assert np.all(after["a"][..., 2] != 1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parameters_keep_their_dtype(dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), network())
    tx = method(optax.adam(1e-2), replacement_rate=0.5, maturity=0)
    inputs = batches(3).astype(dtype)
    after, state = train(tx, params, tx.init(params), inputs)
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype(dtype)}
    assert state.layers[0].utility.dtype == jnp.float32
    assert int(state.layers[0].replaced) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": []}, "layers must be a sequence with at least one"),
        ({"layers": LAYERS[0]}, "layers must be a sequence with at least one"),
        ({"layers": ["kernel"]}, "layers must be of type jd.streaming.HiddenLayer, got 'kernel'"),
        ({"replacement_rate": 1.5}, r"replacement_rate must be a number in \[0, 1\], got 1.5"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"maturity": -1}, "maturity must be an integer in"),
        ({"key": 0}, "key must be one random key"),
        ({"initializer": "he"}, "initializer must be a function such as .* got 'he'"),
    ],
)
def test_bad_arguments_are_refused_at_construction(change, message):
    arguments = {"layers": LAYERS, "key": jax.random.key(0), **change}
    with pytest.raises((ValueError, TypeError), match=message):
        jd.streaming.continual_backprop(optax.sgd(0.1), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kernel": "0/weights"},
            "layers must name in kernel one of 0/bias, .*'0/w",
        ),
        (
            {"next_kernel": "2/kernel"},
            r"fit 0/kernel with 8 units, got shape \(6, 3\) for 2/kernel",
        ),
        ({"bias": "1/bias"}, r"with 8 units, got shape \(6,\) for 1/bias"),
        ({"next_bias": "0/bias"}, r"with 8 units, got shape \(8,\) for 0/bias"),
        ({"kernel": "0/bias"}, r"kernels of at least two axes, got shape \(8,\) for 0/bias"),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_init(change, message):
    layers = [LAYERS[0]._replace(**change)]
    tx = jd.streaming.continual_backprop(optax.sgd(0.1), layers, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        tx.init(network())


def test_activations_that_do_not_fit_are_refused():
    tx, params = method(), network()
    state, grads = tx.init(params), jax.tree.map(jnp.zeros_like, network())
    hidden = forward(params, batches(1)[0])[1]
    for activations, message in (
        (None, "needs one array"),
        (hidden[:1], r"for each of 2 layers, got \[\(4, 8\)\]"),
        (hidden[::-1], r"with units \[8, 6\], got \[\(4, 6\), \(4, 8\)\]"),
    ):
        with pytest.raises(ValueError, match=message):
            tx.update(grads, state, params, activations=activations)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(grads, state, activations=hidden)
