"""A small network on fresh random batches; some gradient coordinates are exactly zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd


def parameters(dtype=jnp.float32):
    """`w[0]` has zero gradients with `dead_inputs`; `unused` always has."""
    return {
        "w": jax.random.normal(jax.random.key(1), (4, 3), dtype),
        "b": jnp.full(3, 0.1, dtype),
        "unused": jnp.ones(2, dtype),
    }


def batches(steps, dtype=jnp.float32, *, dead_inputs=False):
    inputs = jax.random.normal(jax.random.key(0), (steps, 8, 4), dtype)
    return inputs.at[..., 0].set(0) if dead_inputs else inputs


def loss(params, inputs):
    predicted = jnp.tanh(inputs @ params["w"] + params["b"])
    return jnp.mean((predicted - jnp.sin(inputs[:, 1:])) ** 2)


def train(tx, params, inputs, *, pass_value=True):
    """The final parameters and state, and the paths of parameters and hyperparameters."""

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, batch)
        extra_args = {"value": value} if pass_value else {}
        updates, state = tx.update(grads, state, params, **extra_args)
        params = optax.apply_updates(params, updates)
        learned = jd.get_hyperparams(state) if isinstance(state, jd.HypergradientState) else []
        return (params, state), (params, learned)

    run = jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), inputs))
    (params, state), (path, hyper_path) = run(params)
    return params, state, path, hyper_path


def distance(tree, other):
    """The largest absolute difference between two trees of numbers."""
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    )
