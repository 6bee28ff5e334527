"""Gradient descent on quadratics of known sharpness, with a monitor of its stability."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd
from experiments.studies.edge_of_stability.training import PROBE_EVERY

STEPS = 1_000


def descend_quadratic(ratio: float) -> jd.StabilityState:
    """Returns the monitor's state after descent with sharpness `ratio` times the threshold."""
    return _compiled_descent()(jnp.float32(ratio * 2) * jnp.linspace(0.1, 1.0, 20))


@cache
def _compiled_descent() -> Callable[[jax.Array], jd.StabilityState]:
    def quadratic(x: jax.Array, scales: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(scales * x**2)

    tx = jd.monitor_stability(optax.sgd(1.0), quadratic, jd.thresholds.sgd(1.0), every=PROBE_EVERY)

    def descend(scales: jax.Array) -> jd.StabilityState:
        def step(carry: Any, _: None) -> Any:
            x, state = carry
            updates, state = tx.update(jax.grad(quadratic)(x, scales), state, x, batch=scales)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.ones(20)
        (_, state), _ = jax.lax.scan(step, (x, tx.init(x)), length=STEPS)
        return jd.get_stability(state)

    return jax.jit(descend)
