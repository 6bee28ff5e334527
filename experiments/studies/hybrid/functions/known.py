"""Functions with known minima, and roots whose gradients are finite at 0."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxdescent as jd


class Known(NamedTuple):
    """A function with its box and its minimum.

    Attributes:
      function: Called with f[n]; returns a scalar. Gradients are finite everywhere in the box.
      lower, upper: the box, numbers or sequences of n numbers.
      minimizer: one of the minimizers, n numbers.
      minimum: the value there.
    """

    function: Callable[[jax.Array], jax.Array]
    lower: float | Sequence[float]
    upper: float | Sequence[float]
    minimizer: Sequence[float]
    minimum: float

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return len(self.minimizer)

    def problem(self) -> jd.Problem:
        """Returns the problem, in the default precision of JAX."""
        shape = (self.dimension,)
        lower, upper = (jnp.broadcast_to(jnp.asarray(x, float), shape) for x in self[1:3])
        optima = jnp.asarray([self.minimizer], float)
        minimum = jnp.asarray(self.minimum, float)
        return jd.Problem(self.function, lower, upper, (), optima, minimum)


def root(x: jax.Array, power: float = 0.5) -> jax.Array:
    """Returns x^power for x >= 0 and a power below 1, with the gradient 0 at 0."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** power, 0)


def norm(x: jax.Array) -> jax.Array:
    """Returns the Euclidean norm, with the gradient 0 at 0."""
    return root(jnp.sum(x**2))
