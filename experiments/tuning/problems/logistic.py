"""Logistic regression on all examples at every step.

f(w) = mean_i log(1 + exp(-s_i x_i w)) + ridge / 2 |w|^2,    s_i = 1 or -1
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tuning.generated import Moment, Problem

RIDGE = 1e-3
ADDED = 1e-4  # to the relative gap


def breast_cancer() -> Problem:
    """Returns logistic regression on breast cancer, 30 standardized features and a constant.

    The score is the gap to the minimum relative to the first one, (f - f_min) / (f(0) - f_min),
    plus 1e-4: optimizers that reach smaller gaps count as nearly equal. The minimum is found by
    Newton's method in float64. In float32 the relative gap is exact to about 1e-6.
    """
    from experiments.data import tables

    data = tables.breast_cancer()
    inputs, labels = data.normalized(data.train)
    x = np.concatenate([inputs, np.ones((len(inputs), 1))], 1) * (2.0 * labels[:, None] - 1.0)
    lowest, first = minimum(x), np.log(2.0)
    signed = jnp.asarray(x, jnp.float32)

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(x.shape[1])

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, key, moment
        return signed, env

    def loss(params: jax.Array, batch: jax.Array) -> jax.Array:
        return jax.nn.softplus(-batch @ params).mean() + RIDGE / 2 * params @ params

    def score(params: jax.Array, moment: Moment) -> jax.Array:
        del moment
        return jnp.maximum(loss(params, signed) - lowest, 0.0) / (first - lowest) + ADDED

    return Problem(init, observe, loss, score)


def minimum(x: np.ndarray) -> float:
    """Returns the least value of f, by Newton's method with halved steps.

    Args:
      x: `f64[examples, features]`, the inputs times their sign.
    """

    def value(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -x @ w).mean() + RIDGE / 2 * w @ w)

    w = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(x @ w))  # the probability of the wrong class
        gradient = -x.T @ p / len(x) + RIDGE * w
        hessian = (x.T * (p * (1 - p))) @ x / len(x) + RIDGE * np.eye(len(w))
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while value(w - size * step) > value(w) and size > 1e-10:
            size /= 2
        w = w - size * step
        if np.abs(gradient).max() < 1e-13:
            break
    return value(w)
