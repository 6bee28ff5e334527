"""Spall's gains of simultaneous perturbation, and their calibration.

    a_k = a / (A + k)^0.602          c_k = c / k^0.101          k = 1, 2, ...
    x  <- x - a_k g                  g: `jd.estimators.spsa` with sigma = c_k

The calibration chooses `a` such that the first step changes each parameter by a given amount on
average. Its A is 0, as in Qiskit, so that the learning rate falls from the first step on. If A were
a tenth of the steps, as in PennyLane, the learning rate would stay large for that many steps.

Sources: J. C. Spall 1998, IEEE Transactions on Aerospace and Electronic Systems 34(3); A. Kandala
et al. 2017, arXiv:1704.05050, for the calibration from 25 pairs and the first step of 2 pi / 10.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.quantum.optimizers.circuit_optimizer import check_function, flat_function

ALPHA, GAMMA = 0.602, 0.101
PAIRS = 25


class SpsaGains(NamedTuple):
    """Spall's gains.

    Attributes:
      a: f[], the scale of the learning rates.
      c: f[], the scale of the perturbations.
      stability: f[], A.
      executions: i32[], number of values that the calibration has cost.
    """

    a: jax.Array
    c: jax.Array
    stability: jax.Array
    executions: jax.Array

    def at(self, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Returns the learning rate and sigma of a step, counted from 1."""
        step = jnp.asarray(step, self.a.dtype)
        return self.a / (self.stability + step) ** ALPHA, self.c / step**GAMMA


def spsa_gains(num_steps: int, *, a: ArrayLike | None = None, c: ArrayLike = 0.2) -> SpsaGains:
    """Returns gains without calibration; the defaults are PennyLane's.

    Args:
      num_steps: planned number of steps, at least 1; A is a tenth of it.
      a: scale of the learning rates, a number in (0, inf); by default 0.05 (A + 1)^0.602, so that
        the first learning rate is 0.05.
      c: scale of the perturbations, a number in (0, inf).

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range.

    Example:
      >>> import jaxdescent as jd
      >>> [round(float(x), 3) for x in jd.quantum.spsa_gains(100).at(1)]
      [0.05, 0.2]
    """
    validation.integer_in("num_steps", num_steps, 1)
    stability = jnp.asarray(0.1 * num_steps)
    a = 0.05 * (stability + 1) ** ALPHA if a is None else validation.positive_number("a", a)
    c = validation.positive_number("c", c)
    return SpsaGains(
        jnp.asarray(a, stability.dtype),
        jnp.asarray(c, stability.dtype),
        stability,
        jnp.zeros((), jnp.int32),
    )


def calibrated_spsa_gains(
    function: Any,
    params: Any,
    key: jax.Array,
    *,
    first_step: ArrayLike = 2 * jnp.pi / 10,
    stability: ArrayLike = 0.0,
    c: ArrayLike = 0.2,
    pairs: int = PAIRS,
) -> SpsaGains:
    """Returns gains whose first step changes each parameter by `first_step` on average.

    Args:
      function: Called as `function(params)`; or a `sampled` expectation value.
      params: the first parameters, a tree of arrays.
      key: random key.
      first_step: mean change of a parameter in the first step, a number in (0, inf).
      stability: A, a number in [0, inf).
      c: scale of the perturbations, a number in (0, inf).
      pairs: number of pairs of values of `function`, at least 1.

    Returns:
      Gains with `executions` = 2 pairs.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> params, key = jnp.zeros(1), jax.random.key(0)
      >>> gains = jd.quantum.calibrated_spsa_gains(lambda x: 2 * x[0], params, key)
      >>> learning_rate, _ = gains.at(1)
      >>> round(float(2 * learning_rate), 4), int(gains.executions)  # the step is 2 pi / 10
      (0.6283, 50)
    """
    validation.integer_in("pairs", pairs, 1)
    target = validation.positive_number("first_step", first_step)
    stability = jnp.asarray(validation.half_open_interval("stability", stability, 0, jnp.inf))
    gains = spsa_gains(1, c=c)
    gains = gains._replace(stability=stability.astype(gains.c.dtype))
    check_function(function)
    flat, _, value_at = flat_function(function, params)
    key = validation.random_key("key", key)

    def slope(key: jax.Array) -> jax.Array:
        draw, ahead, behind = jax.random.split(key, 3)
        change = gains.c.astype(flat.dtype) * jax.random.rademacher(draw, flat.shape, flat.dtype)
        higher, lower = value_at(flat + change, ahead), value_at(flat - change, behind)
        return jnp.abs(higher - lower) / (2 * gains.c)

    mean = jnp.mean(jax.vmap(slope)(jax.random.split(key, pairs)))
    a = jnp.asarray(target, gains.a.dtype) * (gains.stability + 1) ** ALPHA
    # A flat function gives no scale: the first learning rate is the uncalibrated one.
    flat_a = 0.05 * (gains.stability + 1) ** ALPHA
    a = jnp.where(mean > 1e-10, a / jnp.maximum(mean, 1e-10).astype(a.dtype), flat_a)
    return gains._replace(a=a, executions=jnp.asarray(2 * pairs, jnp.int32))
