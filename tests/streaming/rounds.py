"""Games of a learner against a sequence of losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def play(tx, grad_fn, start, data, **extra):
    """Returns the points before each update and after the last, in float64.

    `grad_fn(w, datum)` returns the gradient, and for learners of errors also the error.
    """
    with jax.enable_x64(True):

        def step(carry, datum):
            w, state = carry
            found = grad_fn(w, datum)
            grads, keywords = found if isinstance(found, tuple) else (found, {})
            updates, state = tx.update(grads, state, w, **keywords, **extra)
            return (optax.apply_updates(w, updates), state), w

        start, data = jnp.asarray(start, float), jax.tree.map(jnp.asarray, data)
        (last, _), points = jax.jit(lambda w, rows: jax.lax.scan(step, (w, tx.init(w)), rows))(
            start, data
        )
        return np.vstack([points, last[None]])


def given(w, gradient):
    """Returns gradients that were chosen before the game."""
    del w
    return gradient


def error_of_linear(w, example):
    """Returns the features, and the error of a linear prediction of the target."""
    x, y = example
    return x, {"error": y - jnp.sum(w * x)}


def into_ball(x, radius):
    """Returns the nearest point of a ball around 0."""
    length = np.linalg.norm(x)
    return x if length <= radius else x * radius / length
