"""Probes: after every `EVERY` steps, the loss of one batch is measured at the average.

Whether the average is better than the parameters cannot be seen from gradients at the parameters
alone: on a quadratic it depends on the curvature between them, and a network is not convex. So
the parameters and their average are exchanged for one step. The loss of that batch is compared
with the running mean of the losses at the parameters, and both are exchanged again. The gradient
at the average is not used.

The differences' mean over the last `MEMORY` probes has a t-value. If it is above `SIGNIFICANT`,
the model is evaluated at the parameters; if it is below -`SIGNIFICANT`, at the average. In between,
the rule of the horizon decides.

An exchange needs updates that arrive as they are. If a transformation after this one changes them,
as the first return to the average shows, there are no probes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

EVERY = 64  # steps
FEWEST, MEMORY = 5.0, 16.0  # probes
SIGNIFICANT = 2.5  # t-value


class ProbeState(NamedTuple):
    """State of the probes.

    Attributes:
      at_average: bool[], True if the parameters and the average are exchanged now.
      steps: i32[], number of steps since the last probe.
      count: f32[], number of probes since the last restart.
      mean: f32[], mean of the loss at the average less the loss at the parameters.
      square: f32[], mean of its square.
      exact: bool[], True if the last return or exchange arrived at the average.
    """

    at_average: jax.Array
    steps: jax.Array
    count: jax.Array
    mean: jax.Array
    square: jax.Array
    exact: jax.Array

    def including(self, excess: jax.Array) -> "ProbeState":
        """Returns the state with one more difference, which is left out if it is not finite."""
        count = self.count + 1
        weight = 1 / jnp.minimum(count, MEMORY)
        new = self._replace(
            count=count,
            mean=self.mean + weight * (excess - self.mean),
            square=self.square + weight * (excess**2 - self.square),
        )
        return optax.tree.where(jnp.isfinite(new.square), new, self)

    @property
    def t(self) -> jax.Array:
        """The mean divided by its standard error; 0 before `FEWEST` differences."""
        count = jnp.minimum(self.count, MEMORY)
        variance = jnp.maximum(self.square - self.mean**2, 0) / jnp.maximum(count - 1, 1)
        error = jnp.sqrt(jnp.where(variance > 0, variance, 1))
        return jnp.where((self.count >= FEWEST) & (variance > 0), self.mean / error, 0)

    def checked(self, returned: jax.Array, distance: jax.Array, reach: jax.Array) -> "ProbeState":
        """Returns the state after a look at the parameters.

        Args:
          returned: bool[], True if the parameters have just returned to the average.
          distance: f32[coordinates], from the average to the parameters.
          reach: f32[coordinates], their rounding errors.
        """
        arrived = jnp.all(jnp.abs(distance) <= reach)
        return self._replace(exact=jnp.where(returned | self.at_average, arrived, self.exact))

    def prefers_params(self, lags: jax.Array) -> jax.Array:
        """Returns bool[], True if the parameters are better; `lags` decides without evidence."""
        return jnp.where(jnp.abs(self.t) > SIGNIFICANT, self.t > 0, lags)
