"""Streams whose targets drift or jump, so that what was learned becomes wrong.

Scores are expected losses at the moment of the measurement, exact or on held-out examples.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem
from experiments.tuning.problems import digits
from experiments.tuning.problems.networks import apply_layers, cross_entropy, init_layers

FEATURES, NOISE = 20, 0.5


def drifting_regression() -> Problem:
    """Returns linear regression whose coefficients are sines, with periods of 2/15 to 1 run."""
    phases = 2 * jnp.pi * jax.random.uniform(jax.random.key(1), (FEATURES,))
    periods = jnp.geomspace(2 / 15, 1.0, FEATURES)

    def coefficients(progress: jax.Array) -> jax.Array:
        return jnp.sin(2 * jnp.pi * progress / periods + phases)

    return _regression(coefficients)


def jumping_regression() -> Problem:
    """Returns linear regression whose normal coefficients are drawn again in each fifth of a run.

    Their standard deviation is 1 and 3 in turn, so that the scale of the loss changes too.
    """
    scales = jnp.array([1.0, 3.0, 1.0, 3.0, 1.0])
    drawn = scales[:, None] * jax.random.normal(jax.random.key(2), (5, FEATURES))

    def coefficients(progress: jax.Array) -> jax.Array:
        return drawn[_stretch(progress, 5)]

    return _regression(coefficients)


def _stretch(progress: jax.Array, count: int) -> jax.Array:
    return jnp.minimum((count * progress).astype(jnp.int32), count - 1)


def _regression(coefficients: Callable[[jax.Array], jax.Array], batch_size: int = 8) -> Problem:
    """Returns regression on 20 normal inputs, with noise of standard deviation 0.5.

    The score is the expected squared error, at least 0.25.
    """

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(FEATURES)

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params
        for_inputs, for_noise = jax.random.split(key)
        x = jax.random.normal(for_inputs, (batch_size, FEATURES))
        noise = NOISE * jax.random.normal(for_noise, (batch_size,))
        return (x, x @ coefficients(moment.progress) + noise), env

    def loss(params: jax.Array, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean((x @ params - y) ** 2)

    def score(params: jax.Array, moment: Moment) -> jax.Array:
        return jnp.sum((params - coefficients(moment.progress)) ** 2) + NOISE**2

    return Problem(init, observe, loss, score)


def permuted_digits(stretches: int = 6, batch_size: int = 16) -> Problem:
    """Returns digits whose 64 pixels are permuted anew in each sixth of a run, for an MLP.

    The score is the cross entropy on the held-out examples, permuted in the same way.
    """
    train, held_out = digits.load()
    keys = jax.random.split(jax.random.key(3), stretches)
    orders = jax.vmap(partial(jax.random.permutation, x=64))(keys)

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params
        x, y = train
        chosen = jax.random.randint(key, (batch_size,), 0, len(y))
        return (x[chosen][:, orders[_stretch(moment.progress, stretches)]], y[chosen]), env

    def score(params: Any, moment: Moment) -> jax.Array:
        x, y = held_out
        order = orders[_stretch(moment.progress, stretches)]
        return _classification_loss(params, (x[:, order], y))

    init = partial(init_layers, sizes=(64, 32, 10))
    return Problem(init, observe, _classification_loss, score)


def relabeled_clusters(
    stretches: int = 5, classes: int = 8, clusters: int = 3, batch_size: int = 16
) -> Problem:
    """Returns Gaussian clusters whose classes are permuted anew in each fifth of a run, for an MLP.

    Each class has three clusters in 20 dimensions, with centers of standard deviation 1.5 and noise
    of standard deviation 1. The score is the cross entropy on 500 examples.
    """
    keys = jax.random.split(jax.random.key(11), stretches)
    labels = jax.vmap(partial(jax.random.permutation, x=classes))(keys)
    centers = 1.5 * jax.random.normal(jax.random.key(12), (clusters * classes, FEATURES))

    def draw(key: jax.Array, count: int, progress: jax.Array) -> Any:
        for_clusters, for_noise = jax.random.split(key)
        chosen = jax.random.randint(for_clusters, (count,), 0, len(centers))
        x = centers[chosen] + jax.random.normal(for_noise, (count, FEATURES))
        return x, labels[_stretch(progress, stretches)][chosen % classes]

    return _classification(draw, batch_size, jax.random.key(13), sizes=(FEATURES, 32, classes))


def rotating_classes(classes: int = 5, batch_size: int = 16) -> Problem:
    """Returns Gaussian classes in ten dimensions whose centers circle, for an MLP.

    The centers of length 2 move in orthogonal planes, with periods of 1/4 to 1 run. The noise has
    standard deviation 1. The score is the cross entropy on 500 examples of the moment.
    """
    directions = jnp.linalg.qr(jax.random.normal(jax.random.key(4), (10, 2 * classes)))[0]
    first, second = directions[:, :classes], directions[:, classes:]
    periods = jnp.geomspace(1 / 4, 1.0, classes)

    def draw(key: jax.Array, count: int, progress: jax.Array) -> Any:
        for_labels, for_noise = jax.random.split(key)
        labels = jax.random.randint(for_labels, (count,), 0, classes)
        angles = 2 * jnp.pi * progress / periods
        centers = 2 * (first * jnp.cos(angles) + second * jnp.sin(angles)).T
        return centers[labels] + jax.random.normal(for_noise, (count, 10)), labels

    return _classification(draw, batch_size, jax.random.key(5), sizes=(10, 32, classes))


def _classification(
    draw: Callable[[jax.Array, int, jax.Array], Any],
    batch_size: int,
    held_out_key: jax.Array,
    *,
    sizes: tuple[int, ...],
) -> Problem:
    """Returns classification by an MLP; `draw(key, count, progress)` returns inputs and labels."""

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params
        return draw(key, batch_size, moment.progress), env

    def score(params: Any, moment: Moment) -> jax.Array:
        return _classification_loss(params, draw(held_out_key, 500, moment.progress))

    return Problem(partial(init_layers, sizes=sizes), observe, _classification_loss, score)


def _classification_loss(params: Any, batch: Any) -> jax.Array:
    x, y = batch
    return cross_entropy(apply_layers(params, x), y)
