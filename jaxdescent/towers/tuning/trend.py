"""Moves the learning rate against the trend of the signal, and detects jumps of the target.

    log a  <-  log a - STRENGTH (t - TARGET) / (n + DELAY)
    t = (mean(S) - harmless) / rms(S)

t compares the signal's discounted mean with its root mean square, and n is the number of steps
since the last restart (see `statistics`): a Robbins-Monro step, which takes all scales in n. The
factor 1 / n lets the learning rate settle; n shrinks if the signal is significantly negative.
Before training has diverged once, a positive mean up to `harmless` is not counted; see `losses`.

A signal that is below -`JUMP` times its root mean square twice in a row is not noise: the target
has jumped, and the average is left behind. Then the statistics begin again, because the old root
mean square would hide the new signals. The learning rate and n stay: a rate that grows fast after
each jump ends too high, as the loss at a new target says little about the best rate.

If updates are so short that the rounding of the parameters loses them all, S is zero. Then the
learning rate grows by the factor exp(`LOST`) in each step.

After training has diverged, the learning rate stays below 1 / `SAFETY` of the failed one. The
limit grows by the factor exp(`RELIEF` / (n + DELAY)) in each step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers.tuning.statistics import Trend

STRENGTH, DELAY = 2.0, 10.0  # kappa and n_0
TARGET = 0.1  # of t
FLOOR = 60.0  # steps; the count never shrinks below it
THRESHOLD = 3.0  # t-value from which it shrinks
JUMP, SETTLED = 10.0, 20.0  # root mean squares of the signal, and the least count
LOST = 0.15  # log factor of the learning rate in each step whose predecessor was lost
SAFETY, RELIEF = 2.0, 0.5  # of the limit on the learning rate


class TrendState(NamedTuple):
    """State of the trend.

    Attributes:
      signal: the trend of the signal.
      far: bool[], True if the last signal was so low that it may be a jump.
      limit: f32[], the limit on the log of the learning rate; infinite before training diverges.
    """

    signal: Trend
    far: jax.Array
    limit: jax.Array

    def including(self, signal: jax.Array) -> tuple["TrendState", jax.Array]:
        """Returns the state with one more signal, and bool[], True if the target has jumped.

        The count is the one before this step.
        """
        root = jnp.sqrt(self.signal.square)
        far = (self.signal.count > SETTLED) & (signal < -JUMP * root)
        jumped = far & self.far
        mean, square = (jnp.where(jumped, 0, x) for x in self.signal[:2])
        begun = Trend(mean, square, self.signal.count)
        counts = jnp.where(far & ~jumped, 0, signal)  # one outlier is not counted
        return TrendState(begun.including(counts), far, self.limit), jumped

    def step(
        self, log_rate: jax.Array, harmless: jax.Array, too_long: jax.Array, too_short: jax.Array
    ) -> jax.Array:
        """Returns the step of log a; 0 before the first update and before the first signal.

        Args:
          log_rate: log a.
          harmless: f32[], part of the signal's mean that is not counted as harm.
          too_long: bool[], True if updates are so long that the learning rate must not grow.
          too_short: bool[], True if there are updates, but the parameters' rounding may lose them.
        """
        trend = self.signal
        harmless = jnp.where(jnp.isinf(self.limit), harmless, 0)
        step = -STRENGTH * (trend.ratio(harmless) - TARGET) / (trend.count + DELAY)
        step = jnp.where(trend.square > 0, step, jnp.where(too_short, LOST, 0))
        step = jnp.where(trend.count > 0, step, 0)
        step = jnp.where(too_long, jnp.minimum(step, 0), step)
        return jnp.minimum(step, jnp.maximum(self.limit - log_rate, 0))

    def counted(self) -> "TrendState":
        """Returns the state with the count of the next step."""
        limit = self.limit + RELIEF / (self.signal.count + DELAY)
        return self._replace(signal=self.signal.counted(FLOOR, THRESHOLD), limit=limit)
