"""Descent on cosh takes the number of steps that a plain loop takes."""

import jax.numpy as jnp
import numpy as np

from experiments.studies.clipping import cosh
from experiments.studies.clipping.settings import TARGET_SLOPE


def test_clipped_descent_takes_as_many_steps_as_a_plain_loop():
    x, steps = 4.0, 0
    while abs(np.sinh(x)) > TARGET_SLOPE:
        x, steps = x - np.clip(np.sinh(x), -1, 1), steps + 1
    assert int(cosh.descend(cosh.clipped_sgd, jnp.array([4.0]), jnp.ones(1))[0, 0]) == steps
