"""Sums with twice the precision: each number is the unevaluated sum of a high and a low part.

Source: D. E. Knuth, The Art of Computer Programming 2, section 4.2.2; T. J. Dekker, "A
floating-point technique for extending the available precision", Numerische Mathematik 18, 1971.
"""

from typing import NamedTuple

import jax


class Pair(NamedTuple):
    """A number, or an array of them.

    Attributes:
      high: the number, rounded.
      low: the rounding error.
    """

    high: jax.Array
    low: jax.Array

    @property
    def value(self) -> jax.Array:
        """The number in the precision of its parts."""
        return self.high + self.low


def add(a: Pair, b: Pair) -> Pair:
    """Returns the sum of two pairs."""
    high, error = two_sum(a.high, b.high)
    return _renormalized(high, error + (a.low + b.low))


def add_number(a: Pair, b: jax.Array) -> Pair:
    """Returns the sum of a pair and a number."""
    high, error = two_sum(a.high, b)
    return _renormalized(high, error + a.low)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the rounded sum and its rounding error."""
    total = a + b
    rounded = total - a
    return total, (a - (total - rounded)) + (b - rounded)


def _renormalized(high: jax.Array, low: jax.Array) -> Pair:
    total = high + low
    return Pair(total, low - (total - high))
