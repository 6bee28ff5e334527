"""Steps on given gradients, and the towers that several test files run on them."""

import functools

import chex
import jax
import numpy as np
import optax
from optax import contrib

import jaxdescent as jd

GRADS = np.random.default_rng(0).normal(size=(8, 3))
OTHERS = np.random.default_rng(1).normal(size=(8, 3))
START = np.array([1.0, -2.0, 0.5])
RATE = {"learning_rate": 0.1}


@functools.cache
def compiled_step(tx):
    def step(params, state, grads, extra_args):
        updates, state = tx.update(grads, state, params, **extra_args)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


def run(tx, params, grads, **extra_args):
    """Parameters and state over time, after a step on every row of the gradients."""
    state, path = jax.jit(tx.init)(params), []
    for t in range(len(jax.tree.leaves(grads)[0])):
        row = jax.tree.map(lambda x, t=t: x[t], (grads, extra_args))
        params, state = compiled_step(tx)(params, state, *row)
        path.append((params, state))
    return jax.tree.map(lambda *rows: np.stack(rows), *path)


def final(tree):
    return jax.tree.map(lambda x: x[-1], tree)


def rates(states):
    """The learned rate of every level over time."""
    return [np.asarray(level["learning_rate"]) for level in jd.get_hyperparams(states)]


def assert_close(tree, other, tolerance=1e-12):
    chex.assert_trees_all_close(tree, other, rtol=tolerance, atol=tolerance)


def on_plateau(learning_rate):
    return optax.chain(optax.adam(learning_rate), contrib.reduce_on_plateau(patience=1))


def adam_of_two_levels(hyper_rate):
    upper = jd.hypergradient(optax.adam, optax.sgd(hyper_rate), tune={"learning_rate": 0.01})
    return jd.hypergradient(optax.adamw, upper, tune={**RATE, "b2": 0.9, "weight_decay": 1e-2})


MAKERS = {
    "adam": lambda rate: jd.hypergradient(optax.adam, optax.sgd(rate), tune={**RATE, "b1": 0.9}),
    "two levels": adam_of_two_levels,
    "reads value": lambda rate: jd.hypergradient(on_plateau, optax.sgd(rate), tune=RATE),
}
BAD_ROWS = [[0], [3], [3, 4], [1, 3]]


@functools.cache
def made(name, hyper_rate):
    return MAKERS[name](hyper_rate)
