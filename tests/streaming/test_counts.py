"""Counts of 64 bits in two words."""

import jax.numpy as jnp
import pytest

from jaxdescent.streaming import counts


@pytest.mark.parametrize("start", [0, 2**24, 2**31 - 1, 2**32 - 1, 2**40 + 5])
def test_a_count_is_exact(start):
    count = counts.Count(jnp.uint32(start >> 32), jnp.uint32(start % 2**32))
    for number in (1, 0, 2**31 - 1, 3):
        count, start = counts.add(count, number), start + number
    assert int(count) == start
    assert float(counts.to_float(count)) == pytest.approx(start, rel=1e-6)
