"""The hypergradient against finite differences, in both modes, and what it leaves out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.numerics import all_finite
from jaxdescent.towers import factory as factories
from jaxdescent.towers import spaces
from jaxdescent.towers.replay import contraction
from jaxdescent.towers.replay.contraction import Mode, contract, goes_forward

both_modes = pytest.mark.parametrize("forward", [False, True], ids=["reverse", "forward"])
TRUE = np.ones((), bool)
REAL = {"w": np.linspace(-1.0, 1.5, 6).reshape(2, 3), "b": np.array([0.3, -0.2, 0.9])}
COMPLEX = {"z": np.array([1 + 2j, -0.5j, 0.25]), "b": np.array([0.3, -0.2, 0.9])}


def slope(update, hyperparams, grads, has_previous, *, forward):
    mode = Mode.FORWARD if forward else Mode.ANY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contraction, "_MAX_FORWARD_PASSES", 0)
        return contract(lambda h, _: update(h), hyperparams, (), grads, has_previous, mode=mode)


def loss(params):
    """Neither quadratic nor holomorphic, and every coordinate counts differently."""

    def weights(leaf):
        return jnp.linspace(0.5, 1.5, leaf.size).reshape(leaf.shape)

    leaves = [weights(leaf) * leaf for leaf in params.values()]
    squares = sum(jnp.sum(jnp.abs(leaf - 0.3) ** 2) for leaf in leaves)
    return squares + sum(jnp.sum(jnp.sin(jnp.real(leaf) - jnp.imag(leaf))) for leaf in leaves)


def gradient(params):
    return jax.tree.map(jnp.conj, jax.grad(loss)(params))  # the way that optax wants it


def per_column(learning_rate):
    def update(updates, state, params=None):
        return {name: -learning_rate * g for name, g in updates.items()}, state

    return optax.GradientTransformation(lambda params: (), update)


def clipped(learning_rate, max_norm):
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.sgd(learning_rate))


# name: (factory, tuned, parameters)
CASES = {
    "adam": (optax.adam, {"learning_rate": 0.1, "b2": 0.9, "eps": 1e-2, "b1": 0.8}, REAL),
    "adamw": (optax.adamw, {"weight_decay": 0.1, "learning_rate": 0.2}, REAL),
    "momentum": (partial(optax.sgd, nesterov=True), {"momentum": 0.9, "learning_rate": 0.1}, REAL),
    "rmsprop": (
        partial(optax.rmsprop, centered=True),
        {"learning_rate": 0.1, "decay": 0.7, "eps": 0.1, "momentum": 0.5},
        REAL,
    ),
    "a global norm": (clipped, {"max_norm": jd.positive(0.5), "learning_rate": 0.1}, REAL),
    "a rate per column": (per_column, {"learning_rate": [0.1, 0.2, 0.4]}, REAL),
    "per leaf": (optax.adam, {"learning_rate": jd.per_leaf(0.1), "b1": 0.8}, REAL),
    "unconstrained": (optax.sgd, {"learning_rate": jd.unconstrained(-0.1)}, REAL),
    "complex adam": (optax.adam, {"learning_rate": 0.1, "b1": 0.8}, COMPLEX),
}


def at_a_step(name):
    """The fourth step of a case: the update, its hyperparameters, the parameters after it."""
    factory, tune, params = CASES[name]
    hyperparams = jd.hypergradient(factory, optax.sgd(0.0), tune=tune).init(params).hyperparams

    @jax.jit
    def three_steps(params):
        tx = factories.build(factory, hyperparams)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(gradient(params), state, params)
            params = optax.apply_updates(params, updates)
        return params, state, gradient(params)

    params, state, grads = three_steps(params)

    def update(h):
        return factories.build(factory, h).update(grads, state, params)

    def after(h):
        return optax.apply_updates(params, update(h)[0])

    return update, hyperparams, after


def finite_difference(function, tree, step=1e-5):
    """The slopes of a function of a tree, number by number."""
    leaves, structure = jax.tree.flatten(tree)
    slopes = [np.zeros(leaf.shape) for leaf in leaves]
    compiled = jax.jit(lambda leaves: function(structure.unflatten(leaves)))
    for slope, leaf, place in zip(slopes, leaves, range(len(leaves)), strict=True):
        for index in np.ndindex(leaf.shape):
            up, down = (
                compiled([*leaves[:place], leaf.at[index].add(move), *leaves[place + 1 :]])
                for move in (step, -step)
            )
            slope[index] = (up - down) / (2 * step)
    return structure.unflatten(slopes)


def assert_close(tree, other, tolerance):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), tree, other
    )


@pytest.mark.parametrize("name", CASES)
def test_both_modes_give_the_slope_of_the_loss_after_the_update(name):
    with jax.enable_x64(True):
        update, hyperparams, after = at_a_step(name)

        @jax.jit
        def in_both_modes(h):
            grads = gradient(after(h))
            modes = (slope(update, h, grads, TRUE, forward=f) for f in (False, True))
            return *modes, update(h)[1]

        (reverse, state), (forward, _), present = in_both_modes(hyperparams)
        expected = finite_difference(lambda h: loss(after(h)), hyperparams)
        assert_close(reverse.hypergradient, expected, 1e-7)
        assert_close(forward, reverse, 1e-12)
        assert_close(state, present, 1e-14)
    assert not reverse.masked
    assert min(float(np.max(np.abs(slope))) for slope in jax.tree.leaves(expected)) > 1e-3


def test_forward_mode_is_for_few_numbers_or_updates_without_reverse_mode():
    def of_size(size):
        return {"rate": jd.unconstrained(np.ones(size)), "b": jd.unconstrained(1.0)}

    leaves = spaces.PerLeaf(spaces.Unconstrained([jnp.ones(())] * 9))
    wide, narrow = jnp.ones(2), [jnp.ones(2), jnp.ones(2, jnp.bfloat16)]
    assert goes_forward(Mode.ANY, of_size(3), wide)
    assert not goes_forward(Mode.ANY, of_size(4), wide)
    assert not goes_forward(Mode.ANY, of_size(3), narrow)
    assert goes_forward(Mode.ANY, {"rate": leaves, "b": jd.unconstrained(1.0)}, wide)
    assert goes_forward(Mode.FORWARD, of_size(9), narrow)
    assert not goes_forward(Mode.REVERSE, of_size(1), wide)


@both_modes
@pytest.mark.parametrize("names", [("gain", "shift"), ("shift", "gain")])
def test_the_order_of_the_names_makes_no_difference(names, forward):
    hyperparams = {name: spaces.Unconstrained(jnp.float32(2.0)) for name in names}

    def update(h):
        return ({"w": 3 * h["gain"].natural() + 5 * h["shift"].natural()}, ())

    found, _ = slope(update, hyperparams, {"w": jnp.ones(())}, TRUE, forward=forward)
    assert {n: float(g.value) for n, g in found.hypergradient.items()} == {"gain": 3, "shift": 5}


SPIKY = {"sharp": jnp.array([1.0, 0.0, 4.0]), "smooth": jnp.array([2.0, 3.0])}
GRADS = {"sharp": jnp.array([1.0, 10.0, 2.0]), "smooth": jnp.array([1.0, -2.0])}


def spiky_update(hyperparams):
    """sqrt(0 h) has no finite slope; `shift` has a clean one at that coordinate."""
    h = hyperparams["scale"]
    scale = h.natural() if isinstance(h, spaces.Unconstrained) else spaces.natural(h)
    scale = scale if isinstance(scale, dict) else dict.fromkeys(SPIKY, scale)
    shift = hyperparams["shift"].natural()
    moved = {"sharp": jnp.sqrt(scale["sharp"] * SPIKY["sharp"]) + shift}
    return {**moved, "smooth": scale["smooth"] * SPIKY["smooth"]}, "state"


def found_by(forward, hyperparams, grads, has_previous=TRUE, update=spiky_update):
    def run(h, g, has_previous):
        return slope(update, h, g, has_previous, forward=forward)[0]

    found = jax.jit(run)(hyperparams, grads, has_previous)
    assert all_finite(found.hypergradient)
    return found


@both_modes
def test_a_coordinate_without_a_finite_slope_is_left_out_alone(forward):
    hyperparams = {"shift": jd.unconstrained(0.0), "scale": jd.unconstrained(4.0)}
    hyperparams = jax.tree.map(jnp.float32, hyperparams)
    found = found_by(forward, hyperparams, GRADS)
    of_scale = 1.0 * 0.5 / 2 + 2.0 * 4 * 0.5 / 4 + 1.0 * 2 - 2.0 * 3
    np.testing.assert_allclose(found.hypergradient["scale"].value, of_scale, rtol=1e-6)
    assert found.masked


@both_modes
def test_a_finite_slope_stays_where_the_slope_of_another_name_is_left_out(forward):
    hyperparams = {"shift": jd.unconstrained(0.0), "scale": jd.unconstrained(4.0)}
    hyperparams = jax.tree.map(jnp.float32, hyperparams)
    found = found_by(forward, hyperparams, GRADS)
    np.testing.assert_allclose(found.hypergradient["shift"].value, 1.0 + 10.0 + 2.0, rtol=1e-6)


@both_modes
def test_a_coordinate_left_out_of_one_leaf_does_not_affect_another_leaf(forward):
    per_leaf = spaces.PerLeaf(spaces.Unconstrained(dict.fromkeys(SPIKY, jnp.float32(4.0))))
    hyperparams = {"shift": spaces.Unconstrained(jnp.float32(0.0)), "scale": per_leaf}
    found = found_by(forward, hyperparams, GRADS)
    of_leaves = found.hypergradient["scale"].space.value
    np.testing.assert_allclose(of_leaves["sharp"], 1.0 * 0.5 / 2 + 2.0 * 4 * 0.5 / 4, rtol=1e-6)
    np.testing.assert_allclose(of_leaves["smooth"], 1.0 * 2 - 2.0 * 3, rtol=1e-6)
    assert found.masked


@both_modes
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_coordinate_that_is_not_finite_is_left_out_alone(bad, forward):
    hyperparams = {"learning_rate": spaces.Unconstrained(jnp.float32(2.0))}

    def update(h):
        return ({"w": -h["learning_rate"].natural() * jnp.array([1.0, 2.0, 3.0])}, ())

    found = found_by(forward, hyperparams, {"w": jnp.array([1.0, bad, 1.0])}, update=update)
    assert found.hypergradient["learning_rate"].value == -4.0
    assert found.masked


@both_modes
def test_a_sum_that_overflows_counts_as_zero(forward):
    hyperparams = {"learning_rate": spaces.Unconstrained(jnp.float32(1.0))}

    def update(h):
        return ({"w": h["learning_rate"].natural() * jnp.full(2, 3e38)}, ())

    found = found_by(forward, hyperparams, {"w": jnp.ones(2)}, update=update)
    assert found.hypergradient["learning_rate"].value == 0
    assert found.masked


@both_modes
def test_without_a_last_update_there_is_no_hypergradient(forward):
    hyperparams = {"shift": jd.unconstrained(0.0), "scale": jd.unconstrained(4.0)}
    hyperparams = jax.tree.map(jnp.float32, hyperparams)
    found = found_by(forward, hyperparams, GRADS, has_previous=~TRUE)
    assert all(leaf == 0 for leaf in jax.tree.leaves(found.hypergradient))
    assert not found.masked


@both_modes
def test_no_parameters_give_a_hypergradient_of_zero(forward):
    hyperparams = {"learning_rate": spaces.Unconstrained(jnp.float32(1.0))}
    found = found_by(forward, hyperparams, {}, update=lambda h: ({}, ()))
    assert found.hypergradient["learning_rate"].value == 0
    assert not found.masked


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, True),
        ({"a": np.ones(2), "n": np.arange(3), "none": None}, True),
        ({"a": np.array([1.0, np.nan])}, False),
        ({"a": np.ones(2), "z": np.array([1 + 1j * np.inf])}, False),
        ({"a": np.zeros((0, 3))}, True),
        ({"a": jnp.full(2, jnp.inf, jnp.bfloat16)}, False),
    ],
)
def test_all_finite_checks_every_inexact_number(tree, expected):
    assert bool(all_finite(tree)) is expected
