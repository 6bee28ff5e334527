"""Means, spreads and t-values of a sequence of numbers.

A count n determines a window of max(`SHORTEST`, n / `SHARE`) steps. With discounted means over it,

    t = mean(s) / sqrt(mean(s^2)),    clipped to [-1, 1]

is about +-1 while s keeps its sign, and about 1 / sqrt(window) in size while s is noise. So
t sqrt(window) is a t-value. The count grows by one in each step. If the trend is significantly
negative, it shrinks instead, and with it the window: then the old numbers do not count anymore.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SHORTEST, SHARE = 10.0, 8.0  # of the window
SHRINK, LARGEST = 0.05, 3.0  # log factor of a count for each unit of t-value, at most so many units


class Spread(NamedTuple):
    """The mean and spread of all numbers until now, by Welford's algorithm.

    Attributes:
      mean: f32[].
      squares: f32[], sum of squared distances from the mean.
    """

    mean: jax.Array
    squares: jax.Array

    def including(self, x: jax.Array, count: jax.Array) -> "Spread":
        """Returns the spread with one more number, which is the `count`-th."""
        distance = x - self.mean
        mean = self.mean + distance / jnp.maximum(count, 1)
        return Spread(mean, self.squares + distance * (x - mean))

    def deviation(self, count: jax.Array) -> jax.Array:
        """Returns the standard deviation of so many numbers."""
        return jnp.sqrt(self.squares / jnp.maximum(count - 1, 1))


class Trend(NamedTuple):
    """Discounted means of a signal.

    Attributes:
      mean: f32[], of the signal, without bias correction.
      square: f32[], of its square.
      count: f32[], which determines the window.
    """

    mean: jax.Array
    square: jax.Array
    count: jax.Array

    @property
    def window(self) -> jax.Array:
        """The window, in steps."""
        return jnp.maximum(SHORTEST, self.count / SHARE)

    def including(self, signal: jax.Array) -> "Trend":
        """Returns the means with one more number; the count does not change."""
        weight = 1 / self.window
        mean = self.mean + weight * (signal - self.mean)
        return Trend(mean, self.square + weight * (signal**2 - self.square), self.count)

    def ratio(self, less: Any = 0.0) -> jax.Array:
        """Returns t of the mean minus a number, in [-1, 1]; 0 before a signal that is not 0."""
        known = self.square > 0
        root = jnp.sqrt(jnp.where(known, self.square, 1))
        return jnp.clip(jnp.where(known, (self.mean - less) / root, 0), -1, 1)

    def counted(self, floor: float, threshold: float) -> "Trend":
        """Returns the trend with the count of the next step.

        Args:
          floor: the count never shrinks below it.
          threshold: t-value of a falling trend from which the count shrinks.
        """
        falls = jnp.clip(-self.ratio() * jnp.sqrt(self.window) - threshold, 0, LARGEST)
        shrunk = jnp.maximum(self.count * jnp.exp(-SHRINK * falls), floor)
        return self._replace(count=jnp.where(self.count > floor, shrunk, self.count) + 1)
