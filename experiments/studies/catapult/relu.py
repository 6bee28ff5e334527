"""Gradient descent on ReLU networks with two hidden layers, at multiples of 1 / sharpness."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.catapult.settings import (
    RELU_CONVERGED,
    RELU_EXAMPLES,
    RELU_FEATURES,
    ReluSetup,
)


class ReluResult(NamedTuple):
    """Training of ReLU networks; arrays after the first are f64[multiples, seeds].

    Attributes:
      multiples: f64[multiples], learning rate x initial sharpness.
      initial_loss, final_loss: the losses.
      initial_sharpness, final_sharpness: the sharpness.
    """

    multiples: np.ndarray
    initial_loss: np.ndarray
    final_loss: np.ndarray
    initial_sharpness: np.ndarray
    final_sharpness: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """bool[multiples, seeds], True if the final loss is far below the initial one."""
        return self.final_loss < RELU_CONVERGED * self.initial_loss


def apply_network(params: Any, x: jax.Array) -> jax.Array:
    """Returns the outputs f64[n] of a ReLU network without biases for inputs f64[n, features]."""
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer.T * np.sqrt(2 / layer.shape[1]))
    return x @ last / np.sqrt(len(last))


def sharpness(params: Any, x: jax.Array) -> jax.Array:
    """Returns the top eigenvalue of the Gauss-Newton matrix of the mean loss, by its kernel."""
    jacobian = jax.jacobian(apply_network)(params, x)
    flat = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
    return jnp.linalg.eigvalsh(flat @ flat.T)[-1] / len(x)


def train(key: Any, setup: ReluSetup) -> ReluResult:
    """Trains a network for each multiple and seed."""
    width = setup.width
    shapes = (
        (width, RELU_FEATURES),
        (width, width),
        (width,),
        (RELU_EXAMPLES, RELU_FEATURES),
    )

    def train_one(key: Any, multiple: jax.Array) -> Any:
        keys = jax.random.split(key, len(shapes))
        *layers, x = (jax.random.normal(*e, dtype=float) for e in zip(keys, shapes, strict=True))
        params, y = tuple(layers), jnp.sign(x[:, 0])

        def loss(params: Any) -> jax.Array:
            return 0.5 * jnp.mean((apply_network(params, x) - y) ** 2)

        initial_sharpness = sharpness(params, x)

        def step(_: Any, params: Any) -> Any:
            return jax.tree.map(
                lambda p, g: p - multiple / initial_sharpness * g, params, jax.grad(loss)(params)
            )

        final = jax.lax.fori_loop(0, setup.steps, step, params)
        return loss(params), loss(final), initial_sharpness, sharpness(final, x)

    program = jax.jit(jax.vmap(jax.vmap(train_one, (0, None)), (None, 0)))
    multiples = np.asarray(setup.multiples, float)
    results = program(jax.random.split(key, setup.seeds), multiples)
    return ReluResult(multiples, *map(np.asarray, results))
