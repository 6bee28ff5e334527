"""Half precision is widened; wider dtypes are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.precision import at_least_float32


@pytest.mark.parametrize(
    ("given", "returned"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32")],
)
def test_half_precision_is_widened(given, returned):
    assert at_least_float32(jnp.ones(2, given)).dtype == returned


def test_float64_is_kept():
    with jax.enable_x64(True):
        assert at_least_float32(jnp.ones(2, np.float64)).dtype == np.float64
