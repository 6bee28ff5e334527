"""Convolutions by matrix products equal XLA's, with all strides, paddings and dilations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models import convolution
from experiments.models.convolution import convolve

LETTERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def arrays(axes):
    random = np.random.default_rng(axes)
    inputs = random.normal(size=(2, *(11, 12)[:axes], 3))
    kernel = random.normal(size=(*(3, 2)[:axes], 3, 5))
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize("axes", [1, 2])
def test_it_equals_the_convolution_of_xla(axes):
    inputs, kernel = arrays(axes)
    for stride, padding, dilation in itertools.product(
        (1, 2, 3), ("SAME", "VALID", [(2, 0)] * axes), (1, 2)
    ):
        options = {"rhs_dilation": (dilation,) * axes}
        expected = jax.lax.conv_general_dilated(
            inputs, kernel, (stride,) * axes, padding, dimension_numbers=LETTERS[axes], **options
        )
        found = convolve(inputs, kernel, (stride,) * axes, padding, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_no_convolution_is_left_in_the_gradient_on_a_cpu():
    inputs, kernel = arrays(2)

    def loss(kernel):
        return convolve(inputs, kernel, (2, 2), "SAME").sum()

    def loss_of_xla(kernel):
        letters = LETTERS[2]
        return jax.lax.conv_general_dilated(
            inputs, kernel, (2, 2), "SAME", dimension_numbers=letters
        ).sum()

    assert "conv_general_dilated" not in str(jax.make_jaxpr(jax.grad(loss))(kernel))
    np.testing.assert_allclose(jax.grad(loss)(kernel), jax.grad(loss_of_xla)(kernel), rtol=1e-4)


def test_other_devices_and_groups_use_the_convolution_of_xla(monkeypatch):
    inputs, kernel = arrays(2)
    layer = nnx.Conv(
        4, 4, (3, 3), feature_group_count=2, conv_general_dilated=convolve, rngs=nnx.Rngs(0)
    )
    assert layer(jnp.ones((1, 5, 5, 4))).shape == (1, 5, 5, 4)
    monkeypatch.setattr(convolution.jax, "default_backend", lambda: "gpu")
    jaxpr = jax.make_jaxpr(lambda x: convolve(x, kernel, (1, 1), "VALID"))(inputs)
    assert "conv_general_dilated" in str(jaxpr)
