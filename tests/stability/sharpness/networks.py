"""A small network with data and dense Hessian, as a reference for tests of curvature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree


def params(dtype=np.float32):
    keys = np.random.default_rng(0)
    shapes = [(6, 7), (7, 4)]
    return [
        {
            "kernel": jnp.asarray(keys.normal(size=shape) / shape[0] ** 0.5, dtype),
            "bias": jnp.asarray(0.1 * keys.normal(size=shape[1]), dtype),
        }
        for shape in shapes
    ]


def batch(dtype=np.float32):
    keys = np.random.default_rng(1)
    return (
        jnp.asarray(keys.normal(size=(40, 6)), dtype),
        jnp.asarray(keys.normal(size=(40, 4)), dtype),
    )


def outputs(params, batch):
    hidden = jnp.tanh(batch[0] @ params[0]["kernel"] + params[0]["bias"])
    return hidden @ params[1]["kernel"] + params[1]["bias"]


def output_loss(outputs, batch):
    """Returns a loss whose Hessian is not the identity."""
    return jnp.mean(jnp.log(jnp.cosh(outputs - batch[1])))


def loss(params, batch):
    return output_loss(outputs(params, batch), batch)


def quadratic(params, matrix):
    return 0.5 * params @ matrix @ params


@functools.cache
def hessian():
    """Returns the dense Hessian at the parameters, float64."""
    with jax.enable_x64(True):
        flat, tree = ravel_pytree(params(np.float64))
        data = batch(np.float64)
        return np.asarray(jax.jit(jax.hessian(lambda w: loss(tree(w), data)))(flat))


@functools.cache
def gauss_newton():
    """Returns the dense Gauss-Newton matrix at the parameters, float64."""
    with jax.enable_x64(True):
        flat, tree = ravel_pytree(params(np.float64))
        data = batch(np.float64)
        shape = data[1].shape

        @jax.jit
        def matrix(flat):
            def out(w):
                return outputs(tree(w), data).ravel()

            jacobian = jax.jacobian(out)(flat)
            curve = jax.hessian(lambda o: output_loss(o.reshape(shape), data))(out(flat))
            return jacobian.T @ curve @ jacobian

        return np.asarray(matrix(flat))
