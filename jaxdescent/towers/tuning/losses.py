"""Reads the running mean of the loss: harm that is too small to act on, and divergence.

The signal S tells how much worse the parameters are than their average. On a plateau it is positive
even at low learning rates, because noise is all that moves the parameters; but only a high one
leaves the plateau. So S is harmless up to the lesser of these two:

- `VISIBLE` standard errors of the mean loss over the window of S. Less harm cannot be seen in the
  loss.
- `SPARED` times the decrease of the loss since the first one.

Training has diverged if the running mean has risen above its lowest value by more than half of what
was won since the first loss, plus twice the noise; and if the signal S explains at least half of
this rise. The second condition tells divergence from a loss that changes for other reasons.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

WINDOW = 10.0  # steps, of the running mean
FEWEST = 6.0  # steps, after which the running mean counts
LOST = 0.5  # of the decrease since the first loss
NOISES = 2.0
EXPLAINED = 0.5  # of the rise
VISIBLE, SPARED = 3.0, 0.03


class LossState(NamedTuple):
    """The loss since the last restart or jump.

    Attributes:
      count: f32[], number of losses.
      first: f32[], the first loss.
      mean: f32[], its running mean.
      noise: f32[], the running mean of the loss's distance from its running mean.
      best: f32[], the lowest running mean.
      best_noise: f32[], the noise at that time.
    """

    count: jax.Array
    first: jax.Array
    mean: jax.Array
    noise: jax.Array
    best: jax.Array
    best_noise: jax.Array

    def including(self, value: jax.Array) -> "LossState":
        """Returns the state with one more loss."""
        begins, count = self.count == 0, self.count + 1
        weight = 1 / jnp.minimum(count, WINDOW)
        distance = jnp.where(begins, 0, jnp.abs(value - self.mean))
        mean = jnp.where(begins, value, self.mean + weight * (value - self.mean))
        noise = jnp.where(begins, 0, self.noise + weight * (distance - self.noise))
        best = jnp.where(begins, jnp.inf, self.best)
        better = (count >= FEWEST) & (mean < best)
        return LossState(
            count=count,
            first=jnp.where(begins, value, self.first),
            mean=mean,
            noise=noise,
            best=jnp.where(better, mean, best),
            best_noise=jnp.where(better, noise, self.best_noise),
        )

    def harmless(self, window: jax.Array) -> jax.Array:
        """Returns the greatest harmless mean of the signal over a window, in steps."""
        won = jnp.where(jnp.isfinite(self.best), jnp.maximum(self.first - self.mean, 0), 0)
        return jnp.minimum(VISIBLE * self.noise / jnp.sqrt(window), SPARED * won)

    def has_diverged(self, signal: jax.Array) -> jax.Array:
        """Returns bool[], True if the loss has risen too far, and the signal explains the rise."""
        won = jnp.maximum(self.first - self.best, 0)
        rise = self.mean - self.best
        worse = rise > LOST * won + NOISES * self.best_noise
        return (self.count > FEWEST) & worse & (signal > EXPLAINED * rise)
