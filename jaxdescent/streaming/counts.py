"""Counts that stay exact in streams without an end: 64 bits in two words.

A float32 no longer changes when 1 is added to 2^24, and an int32 ends at 2^31 examples, which is
half an hour at a million examples per second.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Count(NamedTuple):
    """A non-negative integer below 2^64.

    Attributes:
      high: u32[], the upper 32 bits.
      low: u32[], the lower 32 bits.

    Example:
      >>> int(add(Count(jnp.uint32(0), jnp.uint32(2**32 - 1)), 2))
      4294967297
    """

    high: jax.Array
    low: jax.Array

    def __int__(self) -> int:
        return (int(self.high) << 32) + int(self.low)


def zero() -> Count:
    """Returns the count 0, with buffers of its own."""
    return Count(jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.uint32))


def add(count: Count, number: ArrayLike) -> Count:
    """Returns the count plus an integer in [0, 2^31)."""
    low = count.low + jnp.asarray(number).astype(jnp.uint32)
    return Count(count.high + (low < count.low), low)


def to_float(count: Count, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """Returns the count as a floating-point number, rounded."""
    return count.high.astype(dtype) * 2.0**32 + count.low.astype(dtype)
