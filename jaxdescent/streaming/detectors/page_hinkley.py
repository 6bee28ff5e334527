"""The Page-Hinkley test: cumulative sums of deviations from the running mean.

    m_n = m_{n-1} + (x_n - m_{n-1}) / n
    U_n = alpha U_{n-1} + (x_n - m_n) - delta,     alarm if U_n - min U > threshold     increase
    D_n = alpha D_{n-1} + (x_n - m_n) + delta,     alarm if max D - D_n > threshold     decrease

The factor alpha fades the sums, not the mean. All sums have twice the precision, since they are
long.

Source: E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954, doi:10.2307/2333009.
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
    usable,
)

DIRECTIONS = ("both", "up", "down")


class PageHinkleyState(NamedTuple):
    """State of `page_hinkley`.

    Attributes:
      count: i32[], number of values since the last alarm.
      average: their mean, a pair of f[].
      up: U, a pair of f[].
      lowest: the minimum of U, a pair of f[].
      down: D, a pair of f[].
      highest: the maximum of D, a pair of f[].
      drifted: bool[], True if the last value raised the alarm.
      alarms: i32[], number of alarms.
      ignored: i32[], number of values that were not usable.
    """

    count: jax.Array
    average: Pair
    up: Pair
    lowest: Pair
    down: Pair
    highest: Pair
    drifted: jax.Array
    alarms: jax.Array
    ignored: jax.Array

    @property
    def mean(self) -> jax.Array:
        """Mean of the values since the last alarm, f[...]; 0 before the first value."""
        return self.average.value


def page_hinkley(
    *,
    min_count: int = 30,
    delta: float = 0.005,
    threshold: float = 50.0,
    alpha: float = 0.9999,
    direction: str = "both",
) -> Detector:
    """Returns the Page-Hinkley test, whose alarms are river's.

    With the default threshold it detects a change of errors, which are 0 or 1, late: the deviations
    must add up to 50.

    Args:
      min_count: number of values before the first alarm.
      delta: the change of the mean that is tolerated, in [0, inf).
      threshold: the least sum of deviations that raises an alarm, in (0, inf).
      alpha: the factor of the sums at each value, in (0, 1].
      direction: of the changes that are detected: "up", "down" or "both".

    Returns:
      A `Detector` with a `PageHinkleyState`, which has the `mean`.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> detector = jd.streaming.page_hinkley(threshold=10.0)
      >>> values = jnp.concatenate([jnp.zeros(100), jnp.ones(100)])
      >>> state, found = detector.scan(detector.init(), values)
      >>> jnp.flatnonzero(found.drift)[0].item()
      110
    """
    min_count = validation.integer_in("min_count", min_count, 0, 2**30)
    validation.check_non_negative("delta", delta)
    threshold = validation.positive_number("threshold", threshold)
    if not isinstance(alpha, jax.core.Tracer):
        alpha = validation.positive_up_to("alpha", alpha, 1.0)
    if direction not in DIRECTIONS:
        raise ValueError(
            f"direction must be one of {DIRECTIONS}, got {validation.shown(direction)}"
        )

    def init() -> PageHinkleyState:
        def pair(value: float = 0.0) -> Pair:
            return Pair(jnp.full((), value, jnp.zeros(()).dtype), jnp.zeros(()))

        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return PageHinkleyState(
            count=count(),
            average=pair(),
            up=pair(),
            lowest=pair(jnp.inf),
            down=pair(),
            highest=pair(-jnp.inf),
            drifted=jnp.zeros((), bool),
            alarms=count(),
            ignored=count(),
        )

    def faded(total: Pair, change: jax.Array) -> Pair:
        # The product is small, so that its rounding error is small beside the total.
        forgotten = (1 - alpha) * total.value
        return add_number(total, (change - forgotten).astype(change.dtype))

    def with_value(state: PageHinkleyState, x: jax.Array) -> PageHinkleyState:
        count = increment(state.count, 1)
        n = count.astype(x.dtype)
        average = add_number(state.average, _minus(x, state.average) / n)
        deviation = _minus(x, average)
        up, down = faded(state.up, deviation - delta), faded(state.down, deviation + delta)
        lowest = optax.tree.where(_difference(up, state.lowest) < 0, up, state.lowest)
        highest = optax.tree.where(_difference(down, state.highest) > 0, down, state.highest)
        rises = (_difference(up, lowest) > threshold) & (direction != "down")
        falls = (_difference(highest, down) > threshold) & (direction != "up")
        drifted = (rises | falls) & (count >= min_count)
        alarms = increment(state.alarms, drifted)
        return PageHinkleyState(
            count, average, up, lowest, down, highest, drifted, alarms, state.ignored
        )

    def update(state: PageHinkleyState, value: Any) -> tuple[PageHinkleyState, Detection]:
        x = floating(value, state.average.high)
        used = usable(x)
        fresh = init()._replace(alarms=state.alarms, ignored=state.ignored)
        new = with_value(optax.tree.where(state.drifted, fresh, state), jnp.where(used, x, 0))
        drift = used & new.drifted
        skipped = state._replace(ignored=increment(state.ignored, 1))
        return optax.tree.where(used, new, skipped), Detection(drift, jnp.zeros_like(drift))

    return Detector(init, jax.jit(update))


def _minus(x: jax.Array, pair: Pair) -> jax.Array:
    return (x - pair.high) - pair.low


def _difference(a: Pair, b: Pair) -> jax.Array:
    return (a.high - b.high) + (a.low - b.low)
