"""Hyperparameters stay in their spaces over ten thousand steps on random gradients."""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.numerics import all_finite

STEPS = 10_000
BETAS = ("momentum", "b1", "b2")


def clipped_adam(learning_rate, b1, b2):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate, b1, b2))


def hasty_with_betas(tune):
    """Moves betas in large steps, to the ends of their space, and rates in small ones.

    A rate at the end of its space would make the parameters overflow.
    """
    speeds = {name: "fast" if name in BETAS else "slow" for name in tune}
    return optax.partition({"fast": optax.adam(1.0), "slow": optax.adam(0.05)}, speeds)


def momentum_of_height_2():
    upper_tune = {"learning_rate": 0.02, "b1": 0.9}
    upper = jd.hypergradient(optax.adam, hasty_with_betas(upper_tune), tune=upper_tune)
    return jd.hypergradient(optax.sgd, upper, tune={"learning_rate": 0.1, "momentum": 0.9})


def adam_of_height_1(factory):
    tune = {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.999}
    return jd.hypergradient(factory, hasty_with_betas(tune), tune=tune)


# name: (tower, dtype, True if its inner optimizer stays finite where 1e30 is squared)
TOWERS = {
    "momentum of height 2": (momentum_of_height_2, jnp.float32, True),
    "clipped adam in bf16": (partial(adam_of_height_1, clipped_adam), jnp.bfloat16, True),
    "bare adam in bf16": (partial(adam_of_height_1, optax.adam), jnp.bfloat16, False),
}


class Seen(NamedTuple):
    """Conditions that held in all steps, and the extremes of the hyperparameters.

    Attributes:
      finite: bool[], of parameters, updates, hyperparameters and hyper-optimizers.
      inner_finite: bool[], of the bottom optimizer's state.
      low, high: a dict for each level.
      still: bool[], True if the parameters did not move in a bad step.
    """

    finite: jax.Array
    inner_finite: jax.Array
    low: list
    high: list
    still: jax.Array


@functools.cache
def endured(name):
    """Returns a function of the scales f32[k] of random gradients, which trains a tower."""
    make, dtype, _ = TOWERS[name]
    tx = make()
    params = {"w": jnp.ones((2, 2), dtype), "b": jnp.zeros(2, dtype)}

    def step(carry, row):
        params, state, seen = carry
        key, scale = row
        noise = jax.tree.map(lambda p: jax.random.normal(key, p.shape), params)
        grads = jax.tree.map(lambda n, p: (scale * n).astype(p.dtype), noise, params)
        updates, state = tx.update(grads, state, params)
        now = jd.get_hyperparams(state)
        outer = state._replace(previous=state.previous._replace(state=(), new_state=()))
        seen = Seen(
            seen.finite & all_finite((params, updates, outer)),
            seen.inner_finite & all_finite((state.previous.state, state.previous.new_state)),
            jax.tree.map(jnp.minimum, seen.low, now),
            jax.tree.map(jnp.maximum, seen.high, now),
            seen.still & (~jnp.isnan(scale) | (optax.tree.norm(updates) == 0)),
        )
        return (optax.apply_updates(params, updates), state, seen), None

    @jax.jit
    def run(scales):
        state = tx.init(params)
        now = jd.get_hyperparams(state)
        true = jnp.ones((), bool)
        rows = jax.random.split(jax.random.key(0), STEPS), scales
        carry = params, state, Seen(true, true, now, now, true)
        return jax.lax.scan(step, carry, rows)[0]

    return run


@pytest.mark.parametrize("name", TOWERS)
@given(
    pattern=st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]), min_size=1, max_size=6),
    block=st.sampled_from([1, 7, 1000]),
    bad=st.integers(0, STEPS - 1),
)
@example(pattern=[0.0], block=1, bad=0)
@example(pattern=[1.0, 1e-30, 1e30], block=7, bad=5_000)
@settings(max_examples=2, deadline=None, derandomize=True)
def test_rates_stay_positive_betas_below_one_and_all_finite(name, pattern, block, bad):
    scales = np.resize(np.repeat(np.float32(pattern), block), STEPS)
    scales[bad] = np.nan
    params, state, seen = endured(name)(scales)
    assert bool(seen.finite)
    assert bool(all_finite(params))
    assert bool(seen.inner_finite) or not TOWERS[name][2]
    for low, high in zip(seen.low, seen.high, strict=True):
        for hyperparameter in low:
            assert 0 < low[hyperparameter] <= high[hyperparameter]
            assert high[hyperparameter] < (1 if hyperparameter in BETAS else np.inf)
    assert bool(seen.still)
    assert int(state.skipped) == 1
