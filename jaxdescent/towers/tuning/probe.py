"""Probes: after every `EVERY` steps, the loss of one batch is measured at the average.

Whether the average is better than the parameters cannot be seen from gradients at the parameters
alone: on a quadratic it depends on the curvature between them, and a network is not convex. So
the parameters and their average are exchanged. The loss of the next batch is compared with the
running mean of the losses at the parameters, and both are exchanged again. The gradients of these
two batches are not used.

The differences' mean over the last `MEMORY` probes has a t-value. If it is above `SIGNIFICANT`,
the model is evaluated at the parameters; if it is below -`SIGNIFICANT`, at the average. In between,
the rule of the horizon decides.

An exchange needs updates that arrive as they are. If a transformation after this one changes them,
which the first exchange shows, there are no more probes. Rounding, as of 16-bit parameters, is not
such a change.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

EVERY = 100  # steps
FEWEST, MEMORY = 5.0, 16.0  # probes
REACH = 1e-4  # distance from the average, relative to the parameters, that counts as arrival
SIGNIFICANT = 2.5  # t-value


class ProbeState(NamedTuple):
    """State of the probes.

    Attributes:
      at_average: bool[], True if the parameters and the average are exchanged now.
      steps: i32[], number of steps since the last probe.
      count: f32[], number of probes since the last restart.
      mean: f32[], mean of the loss at the average less the loss at the parameters.
      square: f32[], mean of its square.
      missed: bool[], True if an exchange did not arrive at the average.
    """

    at_average: jax.Array
    steps: jax.Array
    count: jax.Array
    mean: jax.Array
    square: jax.Array
    missed: jax.Array

    def is_due(self) -> jax.Array:
        """Returns bool[], True if it is time to exchange."""
        return ~self.at_average & ~self.missed & (self.steps > EVERY)

    def including(
        self, excess: jax.Array, distance: jax.Array, rounding: float = 0.0
    ) -> "ProbeState":
        """Returns the state with one more loss.

        Args:
          excess: f32[], the loss less the mean loss at the parameters.
          distance: f32[], from the average to the parameters at a few coordinates, relative to
            them.
          rounding: the largest relative rounding error of parameters and updates.
        """
        arrived = distance <= max(REACH, 2 * rounding)
        missed = self.missed | (self.at_average & ~arrived)
        counts = self.at_average & ~missed & jnp.isfinite(excess)
        excess, count = jnp.where(counts, excess, 0), self.count + counts
        weight = jnp.where(counts, 1 / jnp.clip(count, 1, MEMORY), 0)
        return self._replace(
            steps=jnp.where(self.at_average, 0, self.steps + 1),
            count=count,
            mean=self.mean + weight * (excess - self.mean),
            square=self.square + weight * (excess**2 - self.square),
            missed=missed,
        )

    @property
    def t(self) -> jax.Array:
        """The mean divided by its standard error; 0 before `FEWEST` differences."""
        count = jnp.minimum(self.count, MEMORY)
        variance = jnp.maximum(self.square - self.mean**2, 0) / jnp.maximum(count - 1, 1)
        error = jnp.sqrt(jnp.where(variance > 0, variance, 1))
        return jnp.where((self.count >= FEWEST) & (variance > 0), self.mean / error, 0)

    def prefers_params(self, lags: jax.Array) -> jax.Array:
        """Returns bool[], True if the parameters are better; `lags` decides without evidence."""
        return jnp.where(jnp.abs(self.t) > SIGNIFICANT, self.t > 0, lags)
