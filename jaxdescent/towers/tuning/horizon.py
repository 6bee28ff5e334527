"""Horizon of the average: it is shortened when the average lags behind a moving target.

    y  <- y + c (x - y),    c = (p + 1) / (n + p)

is the polynomially weighted average of `with_average`, over about the last n / (p + 1) parameters.
At a few coordinates of each leaf a second average is kept whose horizon is half as long. If the
loss falls from the long average toward the short one, that is, if

    Q = <g, y_short - y_long> < 0

significantly, the long average lags behind. Then n shrinks; otherwise it grows by one in each step.
While n is below `FOLLOWED`, and below 1 / `LAGS` of the number of steps, the target moves faster
than an average can follow, and the model is evaluated at the last parameters instead.

At the start and after a restart, n begins at -`FEWEST`, and the average does not move until n is
positive: it must not follow parameters that may have diverged.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers.tuning.statistics import Trend

POWER = 5.0  # p: the last sixth of the parameters count most
SHORTER = 2.0  # ratio of the two horizons
FLOOR = 60.0  # steps; the count never shrinks below it
THRESHOLD = -0.5  # t-value from which it shrinks
FOLLOWED, LAGS = 120.0, 8.0  # steps, and their ratio to all steps


class HorizonState(NamedTuple):
    """State of the horizon.

    Attributes:
      lag: the trend of Q. Its count is n, in steps.
      short: f32[coordinates], the average of half the horizon at a few coordinates.
      long: f32[coordinates], the average at these coordinates.
    """

    lag: Trend
    short: jax.Array
    long: jax.Array

    def lags(self, steps: jax.Array) -> jax.Array:
        """Returns bool[], True if the average cannot follow; `steps` since the last restart."""
        n = self.lag.count
        return (n > 0) & (n < FOLLOWED) & (LAGS * n < steps)

    def including(
        self, jumped: jax.Array, params: jax.Array, grads: jax.Array
    ) -> tuple["HorizonState", jax.Array]:
        """Returns the state with one more step, and the weight c of the parameters.

        Args:
          jumped: bool[], True if the average begins again.
          params: f32[coordinates], the parameters at the coordinates.
          grads: f32[coordinates], the gradient there.
        """
        lag = Trend(*(jnp.where(jumped, 0, x) for x in self.lag))
        signal = jnp.sum(grads * (self.short - self.long))
        known = (lag.count > 0) & jnp.isfinite(signal)
        lag = lag.including(jnp.where(known, signal, 0)).counted(FLOOR, THRESHOLD)
        weight = jnp.where(lag.count > 0, (POWER + 1) / jnp.maximum(lag.count + POWER, 1), 0)
        short = self.short + jnp.minimum(1, SHORTER * weight) * (params - self.short)
        return HorizonState(lag, short, self.long + weight * (params - self.long)), weight
