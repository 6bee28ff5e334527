"""Paths of one agent, for tests of optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def path(tx, value_fn, x, steps):
    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(value_fn)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (x + updates, state), x

    (_, state), xs = jax.jit(lambda: jax.lax.scan(step, (x, tx.init(x)), length=steps))()
    return np.asarray(xs), state


def bowl(x):
    return jnp.sum(x**2)


def with_extra_args(tx):
    return optax.with_extra_args_support(tx)
