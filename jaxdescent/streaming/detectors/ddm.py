"""DDM, the drift detection method: the error rate of a learner rises above its lowest.

    p = errors / n,     s = sqrt(p (1 - p) / n)            error rate and its spread
    (p*, s*) = (p, s) at the least p + s until now
    warning if p + s > p* + 2 max(s*, min_spread)
    drift if p + s > p* + 3 max(s*, min_spread)

Without a least spread, s* is 0 after more than `min_count` values without an error, and the first
error is a drift.

Source: J. Gama, P. Medas, G. Castillo, P. Rodrigues, "Learning with drift detection", SBIA 2004,
doi:10.1007/978-3-540-28645-5_29.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.streaming.detectors.compensated import Pair, add_number
from jaxdescent.streaming.detectors.detector import (
    Detection,
    Detector,
    floating,
    increment,
)


class DDMState(NamedTuple):
    """State of `ddm`.

    Attributes:
      count: i32[], number of values since the last drift.
      errors: their sum, a pair of f[].
      best_rate: p*, f[]; infinity at first.
      best_spread: s*, f[].
      drifted: bool[], True if the last value was a drift.
      warned: bool[], True if there was a warning at the last value.
      alarms: i32[], number of drifts.
      ignored: i32[], number of values that were not in [0, 1].
    """

    count: jax.Array
    errors: Pair
    best_rate: jax.Array
    best_spread: jax.Array
    drifted: jax.Array
    warned: jax.Array
    alarms: jax.Array
    ignored: jax.Array

    @property
    def mean(self) -> jax.Array:
        """The error rate since the last drift, f[...]; 0 before the first value."""
        return self.errors.value / jnp.maximum(self.count, 1).astype(self.errors.high.dtype)


def ddm(
    *,
    min_count: int = 30,
    warning_threshold: float = 2.0,
    drift_threshold: float = 3.0,
    min_spread: float = 0.0,
) -> Detector:
    """Returns DDM, for a stream of errors: 0 or False where a learner is right, else 1 or True.

    With `min_spread=0`, its warnings and drifts are river's, up to the precision of the numbers.

    Args:
      min_count: number of values that must be exceeded for a warning or a drift.
      warning_threshold: number of spreads above the lowest rate for a warning, in (0, inf).
      drift_threshold: number of spreads above the lowest rate for a drift, in (0, inf).
      min_spread: least spread, in [0, inf). With 0, a single error after more than `min_count`
        values without one is a drift; 0.01 avoids that.

    Returns:
      A `Detector` with a `DDMState`, which has the `mean`. Values may be between 0 and 1; others
      are ignored.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> errors = jnp.concatenate([jnp.zeros(99), jnp.ones(9)])
      >>> for min_spread in (0.0, 0.01):
      ...     detector = jd.streaming.ddm(min_spread=min_spread)
      ...     state, found = detector.scan(detector.init(), errors)
      ...     print(jnp.flatnonzero(found.drift)[0])
      99
      100
    """
    min_count = validation.integer_in("min_count", min_count, 0, 2**30)
    warning_threshold = validation.positive_number("warning_threshold", warning_threshold)
    drift_threshold = validation.positive_number("drift_threshold", drift_threshold)
    validation.check_non_negative("min_spread", min_spread)

    def init() -> DDMState:
        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        def flag() -> jax.Array:
            return jnp.zeros((), bool)

        zero = jnp.zeros(())
        best = jnp.full((), jnp.inf, zero.dtype)
        return DDMState(
            count(), Pair(zero, zero), best, zero, flag(), flag(), alarms=count(), ignored=count()
        )

    def with_value(state: DDMState, x: jax.Array) -> DDMState:
        count = increment(state.count, 1)
        n = count.astype(x.dtype)
        errors = add_number(state.errors, x)
        rate, right = errors.value / n, ((n - errors.high) - errors.low) / n
        spread = jnp.sqrt(jnp.maximum(rate * right, 0) / n)
        counts = count > min_count
        better = counts & (rate + spread <= state.best_rate + state.best_spread)
        best_rate = jnp.where(better, rate, state.best_rate)
        best_spread = jnp.where(better, spread, state.best_spread)
        unit = jnp.maximum(best_spread, min_spread)
        warned = counts & (rate + spread > best_rate + warning_threshold * unit)
        drifted = counts & (rate + spread > best_rate + drift_threshold * unit)
        return DDMState(
            count=count,
            errors=errors,
            best_rate=best_rate,
            best_spread=best_spread.astype(x.dtype),
            drifted=drifted,
            warned=warned & ~drifted,
            alarms=increment(state.alarms, drifted),
            ignored=state.ignored,
        )

    def update(state: DDMState, value: Any) -> tuple[DDMState, Detection]:
        x = floating(value, state.errors.high)
        used = (x >= 0) & (x <= 1)
        fresh = init()._replace(alarms=state.alarms, ignored=state.ignored)
        new = with_value(optax.tree.where(state.drifted, fresh, state), jnp.where(used, x, 0))
        skipped = state._replace(ignored=increment(state.ignored, 1))
        return optax.tree.where(used, new, skipped), Detection(
            used & new.drifted, used & new.warned
        )

    return Detector(init, jax.jit(update))
