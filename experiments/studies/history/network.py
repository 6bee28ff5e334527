"""One real network: a multilayer perceptron on handwritten digits, trained by each method.

One program trains the networks of all learning rates and seeds of a method side by side, on the
same batches. A network is taken from its epoch with the least validation loss, and the learning
rate is chosen by this loss, a mean over seeds. A method with n learning rates costs n gradients for
each step. MAGD is a population of Adam with the same n learning rates, pruned by successive
halving. `jd.hybrid` is left out: it takes at most 2,000 coordinates.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.history.methods import METHODS
from experiments.studies.history.settings import Setup
from experiments.studies.quickstart import network

BATCH_SIZE = 64
NUM_RUNGS = 10
HALVING = jd.pruning.successive_halving()


class Training(NamedTuple):
    """Training of a method at its best learning rate.

    Attributes:
      gradients: i64[n], gradients of a network up to each evaluation, with the gradients for all
        other learning rates.
      validation: f64[n, seeds], losses; inf where they are not finite.
      test: f64[seeds], losses on the test images, at the epoch with the least validation loss.
      accuracies: f64[seeds], on the test images in percent, likewise.
      learning_rate: f64[], nan for methods without one to choose.
      at_end: bool[], True if the learning rate is at an end of the grid.
    """

    gradients: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    accuracies: np.ndarray
    learning_rate: np.ndarray
    at_end: np.ndarray


class Scores(NamedTuple):
    """Scores of networks: losses and accuracies, of any shape."""

    validation: Any
    test: Any
    accuracy: Any


def train(name: str, setup: Setup, seed: int) -> Training:
    """Trains the networks of a method with a transformation, and returns the best learning rate's.

    Args:
      name: key of `METHODS`.
      setup: amount of work.
      seed: of the initial parameters and of the batches.
    """
    rates = setup.network_rates(name)
    data, keys = network.load(), _keys(seed, setup.seeds)
    scores = _train(data, jnp.asarray(rates), keys, name, setup.epochs)
    scores = jax.tree.map(lambda x: np.asarray(x, np.float64), scores)
    steps = _steps_per_epoch(data) * np.arange(setup.epochs + 1)
    return best_training(scores, rates, steps)


def best_training(scores: Scores, rates: Sequence[float], steps: np.ndarray) -> Training:
    """Returns the training of the learning rate with the least validation loss at the best epoch.

    Args:
      scores: f64[n, rates, seeds] each.
      rates: the learning rates; (0,) for a method without one.
      steps: i64[n], the number of steps of each evaluation.
    """
    validation = np.where(np.isfinite(scores.validation), scores.validation, np.inf)
    best = int(validation.min(0).mean(-1).argmin())
    epochs = validation[:, best].argmin(0), np.arange(validation.shape[-1])
    return Training(
        gradients=steps * len(rates),
        validation=validation[:, best],
        test=scores.test[:, best][epochs],
        accuracies=scores.accuracy[:, best][epochs],
        learning_rate=np.array(rates[best] or np.nan),
        at_end=np.array(len(rates) > 1 and best in (0, len(rates) - 1)),
    )


def train_population(setup: Setup, seed: int) -> Training:
    """Trains MAGD: Adam with the learning rates of its grid, pruned by validation loss."""
    data, rates = network.load(), jnp.asarray(setup.network_rates("adam"))
    results = [
        jd.fit(
            network.loss,
            optax.adam,
            data.train,
            init_params=jax.tree.map(lambda x: jnp.stack([x] * len(rates)), network.init(key)),
            hyperparams={"learning_rate": rates},
            validation_data=data.validation,
            steps=setup.epochs * _steps_per_epoch(data),
            num_rungs=NUM_RUNGS,
            batch_size=BATCH_SIZE,
            rule=HALVING,
            key=key,
        )
        for key in _keys(seed, setup.seeds)
    ]
    ends = [jax.device_get(_scores(result.params, data)) for result in results]
    return Training(
        gradients=np.mean([result.history.gradients for result in results], axis=0),
        validation=np.stack([result.history.best_value for result in results], -1).astype(float),
        test=np.array([end.test for end in ends], float),
        accuracies=np.array([end.accuracy for end in ends], float),
        learning_rate=np.array(np.nan),
        at_end=np.array(False),
    )


def _keys(seed: int, seeds: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), seeds)


def _steps_per_epoch(data: network.Parts) -> int:
    return len(data.train.targets) // BATCH_SIZE


@jax.jit
def _scores(params: Any, data: network.Parts) -> Scores:
    return Scores(
        network.loss(params, data.validation),
        network.loss(params, data.test),
        network.accuracy(params, data.test),
    )


@partial(jax.jit, static_argnums=(3, 4))
def _train(
    data: network.Parts, rates: jax.Array, keys: jax.Array, name: str, epochs: int
) -> Scores:
    """Returns the scores before training and after each epoch, [epochs + 1, rates, seeds] each."""
    method = METHODS[name]
    make: Any = method.make
    steps = _steps_per_epoch(data)

    def evaluate(params: Any, state: Any) -> Scores:
        evaluated = params if method.evaluated is None else method.evaluated(state, params)
        return _scores(evaluated, data)

    def train_one(rate: jax.Array, key: jax.Array) -> Scores:
        def step(carry: Any, indices: jax.Array) -> Any:
            params, state = carry
            batch = jax.tree.map(lambda x: x[indices], data.train)
            value, grads = jax.value_and_grad(network.loss)(params, batch)
            extra = {"value": value} if method.takes_value else {}
            updates, state = make(rate).update(grads, state, params, **extra)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry: Any, number: jax.Array) -> Any:
            shuffle = jax.random.fold_in(key, number)
            order = jax.random.permutation(shuffle, len(data.train.targets))
            batches = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, evaluate(*carry)

        params = network.init(key)
        carry = params, make(rate).init(params)
        _, later = jax.lax.scan(epoch, carry, jnp.arange(epochs))
        return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), evaluate(*carry), later)

    scores = jax.vmap(jax.vmap(train_one, (None, 0)), (0, None))(rates, keys)
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), scores)
