"""Moves the learning rate against the trend of the signal, and detects jumps of the target.

    log a  <-  log a - STRENGTH (t - TARGET) / (n + DELAY)

t is the ratio of the signal's discounted mean to its root mean square, and n the number of steps
since the last restart or jump (see `statistics`): a Robbins-Monro step, which takes all scales in
n. The factor 1 / n lets the learning rate settle; n shrinks if the signal is significantly
negative.

A signal that is below -`JUMP` times its root mean square twice in a row is not noise: the target
has jumped, and the average is left behind. Then n and the statistics begin again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers.tuning.statistics import Trend

STRENGTH, DELAY = 2.0, 10.0  # kappa and n_0
TARGET = 0.1  # tau, of the ratio t
FLOOR = 60.0  # steps; the count never shrinks below it
THRESHOLD = 3.0  # t-value from which it shrinks
JUMP, SETTLED = 10.0, 20.0  # root mean squares of the signal, and the least count


class TrendState(NamedTuple):
    """State of the trend.

    Attributes:
      signal: the trend of the signal.
      far: bool[], True if the last signal was so low that it may be a jump.
    """

    signal: Trend
    far: jax.Array

    def including(self, signal: jax.Array) -> tuple["TrendState", jax.Array]:
        """Returns the state with one more signal, and bool[], True if the target has jumped.

        The count is the one before this step.
        """
        root = jnp.sqrt(self.signal.square)
        far = (self.signal.count > SETTLED) & (signal < -JUMP * root)
        jumped = far & self.far
        begun = Trend(*(jnp.where(jumped, 0, x) for x in self.signal))
        counts = jnp.where(far & ~jumped, 0, signal)  # one outlier is not counted
        return TrendState(begun.including(counts), far), jumped

    def step(self) -> jax.Array:
        """Returns the step of log a; 0 before the first update and before the first signal."""
        trend = self.signal
        step = -STRENGTH * (trend.ratio - TARGET) / (trend.count + DELAY)
        return jnp.where((trend.count > 0) & (trend.square > 0), step, 0)

    def counted(self) -> "TrendState":
        """Returns the state with the count of the next step."""
        return self._replace(signal=self.signal.counted(FLOOR, THRESHOLD))
