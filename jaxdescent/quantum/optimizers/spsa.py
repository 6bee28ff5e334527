"""Simultaneous perturbation with Spall's gains: two executions a step for any number of parameters.

    x <- x - a_k (f(x + c_k d) - f(x - c_k d)) / (2 c_k) d          d: random signs

The gains a_k and c_k are in `spsa_gains`, the estimate in `jaxdescent.estimators.spsa`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.estimators import spsa as spsa_estimator
from jaxdescent.quantum.estimators.shots import shots_per_value
from jaxdescent.quantum.estimators.spsa_gains import (
    PAIRS,
    SpsaGains,
    calibrated_spsa_gains,
    spsa_gains,
)
from jaxdescent.quantum.optimizers.circuit_optimizer import (
    CircuitOptimizer,
    added,
    check_function,
    circuit_optimizer,
    counted,
    flat_function,
    no_count,
)


class SpsaState(NamedTuple):
    """State of `spsa`.

    Attributes:
      gains: the gains, whose calibration is counted.
      steps: i32[], number of steps until now.
      executions: i32[], number of executions of the circuit until now.
      shots: i32[], number of measurements until now.
    """

    gains: SpsaGains
    steps: jax.Array
    executions: jax.Array
    shots: jax.Array


def spsa(function: Any, num_steps: int, *, calibrate: bool = False) -> CircuitOptimizer:
    """Minimizes a function by simultaneous perturbation with Spall's gains.

    Args:
      function: Called as `function(params)`; returns a real scalar. It can be an `Expectation`, a
        `sampled` one, or a QNode.
      num_steps: planned number of steps, at least 1, which sets the decrease of the learning rate
        without a calibration.
      calibrate: whether 50 executions before the first step set the scale of the learning rates,
        so that the first step changes each parameter by 2 pi / 10. The learning rate of step k is
        then proportional to k^-0.602. Near a minimum, such as at Hartree-Fock, where values change
        little, this scale is too large.

    Returns:
      A `CircuitOptimizer`, whose step takes 2 executions.

    Raises:
      TypeError: `function` cannot be called.
      ValueError: `num_steps` is not a positive integer.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> optimizer = jd.quantum.spsa(lambda x: jnp.sum(jnp.cos(x)), 100, calibrate=True)
      >>> params, key = jnp.array([0.5, 2.0]), jax.random.key(0)
      >>> state = optimizer.init(params, key)
      >>> for key in jax.random.split(key, 100):
      ...     params, state = jax.jit(optimizer.step)(params, state, key)
      >>> bool(jnp.sum(jnp.cos(params)) < -1.9), int(state.executions)
      (True, 250)
    """
    check_function(function)
    validation.integer_in("num_steps", num_steps, 1)
    validation.boolean("calibrate", calibrate)
    estimator = spsa_estimator()

    def init(params: Any, key: jax.Array) -> SpsaState:
        flat, unravel, value_at = flat_function(function, params)
        del unravel, value_at
        gains = spsa_gains(num_steps)
        if calibrate:
            gains = calibrated_spsa_gains(function, params, key)
        gains = gains._replace(
            a=gains.a.astype(flat.dtype),
            c=gains.c.astype(flat.dtype),
            stability=gains.stability.astype(flat.dtype),
        )
        shots = 2 * PAIRS * shots_per_value(function) if calibrate else 0
        return SpsaState(gains, no_count(), gains.executions, added(no_count(), shots))

    def step(params: Any, state: SpsaState, key: jax.Array) -> tuple[Any, SpsaState]:
        flat, unravel, value_at = flat_function(function, params)
        rate, sigma = state.gains.at(state.steps + 1)
        draw, measured = jax.random.split(key)
        # The measurements of the two ends differ: their keys come from the points.
        grads = estimator.estimate(
            lambda x: value_at(x, _key_at(measured, x)), flat, key=draw, sigma=sigma
        ).grads
        moved = flat - rate.astype(flat.dtype) * grads
        counts = counted(state, function, 2)
        return unravel(moved), SpsaState(state.gains, added(state.steps, 1), **counts)

    return circuit_optimizer(SpsaState, init, step)


def _key_at(key: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a key that depends on the bits of a point."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    weights = 2 * jnp.arange(len(bits), dtype=jnp.uint32) + 1
    return jax.random.fold_in(key, jnp.sum(bits * weights, dtype=jnp.uint32))
