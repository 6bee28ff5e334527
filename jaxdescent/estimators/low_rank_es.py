"""Evolution strategies whose samples perturb matrices by products of thin random matrices.

    E      = A B' / sqrt(r)                      A[m, r], B[n, r] ~ N(0, I), for each matrix W[m, n]
    grads  = mean of (f(W + s E) - f(W - s E)) E / (2 s)

Parameters with fewer than two axes, such as biases, have E ~ N(0, I). Entries of E have mean 0 and
variance 1 and are uncorrelated, as in `smoothed`. Given B, the perturbed matrix is Gaussian, and
integration by parts over A gives the mean of the estimate:

    E grad f(W + s E) B B' / r

B B' / r has the mean I. On a quadratic function the mean is the gradient itself, at every rank. In
general it tends to the gradient of the function smoothed by a Gaussian as r grows.

A sample is the number i of its pair: A and B are drawn from `fold_in(key, i)` when its value is
computed, and again when the mean is. `factored_matrices` computes the values without the matrices
W + s E.

Source: B. Sarkar et al. 2025, "Evolution strategies at the hyperscale", arXiv:2511.16652 (EGGROLL).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.estimators.estimator import Estimate, Estimator
from jaxdescent.estimators.evolution_strategies import centered_ranks
from jaxdescent.estimators.factored_matrices import FactoredMatrix, evaluate
from jaxdescent.estimators.pairs import Center, center, check_samples, half_differences


def low_rank_es(
    sigma: ArrayLike = 0.1,
    num_samples: int = 64,
    *,
    rank: int = 1,
    use_ranks: bool = False,
    chunk_size: int = 64,
) -> Estimator:
    """Estimates the gradient of a large network from values of many perturbed copies.

    Memory is one copy of the parameters, the gradient, and the activations of `chunk_size` samples.
    It does not grow with `num_samples`. In a product with a matrix of parameters, all samples share
    the product with the matrix itself, and add a product of rank `rank`.

    The estimate has the mean that the module's docstring derives: on a quadratic function the
    gradient; in general close to the gradient of the function smoothed by a Gaussian, and closer
    with a higher rank. With `use_ranks` the values are replaced by their ranks, as in
    `evolution_strategies`, and the estimate is biased as described there.

    A parameter with three or more axes, such as the kernel of a convolution, is perturbed as a
    matrix of its last axis by all others. It is computed for each sample of a chunk, and so is
    every matrix that the function uses in another way than a product, a transpose or a lookup of
    rows. With `scale` all parameters are.

    A pair of samples whose values are not finite is left out and counted. With `use_ranks` a value
    that is not finite ranks as the highest, and a pair of two such values is left out. The variance
    is not reported: it would take another copy of the parameters.

    Args:
      sigma: standard deviation of the perturbation of each parameter, a number in (0, inf), in
        units of `scale`. It can also be given to each call, as an array.
      num_samples: number of points, an even integer: they are antithetic pairs.
      rank: r, the rank of a perturbation, at least 1. The memory and time of random numbers grow
        with it.
      use_ranks: whether to replace values by their centered ranks.
      chunk_size: number of samples that are evaluated at once, an even integer. More of them are
        faster, and need memory for their activations.

    Returns:
      An `Estimator` that spends `num_samples + 1` evaluations, one of them for the value.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: `sigma` is not a number.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def loss(params):
      ...     return jnp.mean((jnp.ones(64) @ params["w"] + params["b"]) ** 2)
      >>> params = {"w": jnp.ones((64, 32)), "b": jnp.zeros(32)}
      >>> estimator = jd.estimators.low_rank_es(sigma=0.1, num_samples=4096)
      >>> value, grads = jax.jit(estimator.value_and_grad(loss))(params, key=jax.random.key(0))
      >>> bool(jnp.abs(jnp.mean(grads["w"]) - 4) < 1)  # each derivative is 4
      True
    """
    default = validation.positive_number("sigma", sigma)
    pairs = check_samples(num_samples)
    rank = validation.integer_in("rank", rank, 1)
    if not isinstance(use_ranks, bool):
        raise ValueError(f"use_ranks must be True or False, got {use_ranks!r}")
    validation.integer_in("chunk_size", chunk_size, 2)
    if chunk_size % 2:
        raise ValueError(
            f"chunk_size must be an even integer, got {chunk_size}; samples are antithetic pairs"
        )
    chunk = min(chunk_size // 2, pairs)

    def estimate(
        function: Any,
        params: Any,
        *args: Any,
        key: Any = None,
        sigma: ArrayLike | None = None,
        scale: Any = None,
        has_aux: bool = False,
    ) -> Estimate:
        sigma = default if sigma is None else sigma
        key, x = center(function, params, args, key=key, sigma=sigma, scale=scale, has_aux=has_aux)
        draw = sampler(key, jax.tree.leaves(x.params), rank)
        plus, minus = _values(x, draw, pairs, chunk, in_factors=scale is None)
        weights, usable = half_differences(plus, minus)
        nonfinite = jnp.sum(~usable, dtype=jnp.int32)
        if use_ranks:
            ranks = centered_ranks(jnp.concatenate([plus, minus]))
            weights = (ranks[:pairs] - ranks[pairs:]) / 2
            usable = jnp.isfinite(plus) | jnp.isfinite(minus)
        totals = _weighted_sum(draw, jnp.where(usable, weights, 0), chunk)
        return Estimate(x.value, _mean(x, totals, jnp.sum(usable)), None, nonfinite, x.aux)

    return Estimator(estimate, num_samples + 1, hyperparams=("sigma",))


class Direction(NamedTuple):
    """The perturbation E of one parameter, in factors or as it is.

    Attributes:
      a: f[m, r] with E = a b' / sqrt(r) as a matrix; or E itself if `b` is None.
      b: f[n, r], or None.
    """

    a: jax.Array
    b: jax.Array | None

    def array(self, shape: tuple[int, ...]) -> jax.Array:
        """Returns E, of the shape of the parameter."""
        if self.b is None:
            return self.a
        return (jnp.matmul(self.a, self.b.T) / math.sqrt(self.a.shape[1])).reshape(shape)


Sampler = Callable[[jax.Array], list[Direction]]


def sampler(key: jax.Array, leaves: Sequence[jax.Array], rank: int) -> Sampler:
    """Returns a function of the number of a pair, i32[], to the directions of all leaves."""
    dtype = numerics.widest_float(leaves)
    sizes = [_numbers_drawn(leaf.shape, rank) for leaf in leaves]
    ends = list(itertools.accumulate(sizes))

    def draw(i: jax.Array) -> list[Direction]:
        # One call for all leaves, since each call of a sampler takes XLA a second to compile.
        numbers = jax.random.normal(jax.random.fold_in(key, i), (ends[-1],), dtype)
        parts = jnp.split(numbers, ends[:-1])
        return [_direction(x, leaf.shape, rank) for x, leaf in zip(parts, leaves, strict=True)]

    return draw


def _numbers_drawn(shape: tuple[int, ...], rank: int) -> int:
    if len(shape) < 2:
        return math.prod(shape)
    return rank * (math.prod(shape[:-1]) + shape[-1])


def _direction(numbers: jax.Array, shape: tuple[int, ...], rank: int) -> Direction:
    if len(shape) < 2:
        return Direction(numbers.reshape(shape), None)
    both = numbers.reshape(-1, rank)
    return Direction(both[: -shape[-1]], both[-shape[-1] :])


def _values(
    x: Center, draw: Sampler, pairs: int, chunk: int, *, in_factors: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns f[pairs], the values at W + s E, and f[pairs], at W - s E, of at least 32 bits."""
    jaxpr = jax.make_jaxpr(x.function)(x.params)
    leaves, steps = jax.tree.leaves(x.params), jax.tree.leaves(x.steps)
    signs = jnp.array([1, -1], numerics.widest_float(leaves))

    def move(leaf: jax.Array, step: jax.Array, direction: Direction) -> Any:
        if in_factors and leaf.ndim == 2 and direction.b is not None:
            step = step / math.sqrt(direction.a.shape[1])
            return FactoredMatrix(leaf, step, direction.a, direction.b)
        return (leaf + step * direction.array(leaf.shape)).astype(leaf.dtype)

    def values_of_pair(i: jax.Array) -> jax.Array:
        directions = draw(i)

        def value(sign: jax.Array) -> jax.Array:
            moved = [
                move(leaf, sign * step, direction)
                for leaf, step, direction in zip(leaves, steps, directions, strict=True)
            ]
            return evaluate(jaxpr, moved)[0]

        return jax.vmap(value)(signs)

    values = jax.lax.map(values_of_pair, jnp.arange(pairs, dtype=jnp.int32), batch_size=chunk)
    plus, minus = values.astype(numerics.at_least_float32(values.dtype)).T
    return plus, minus


def _weighted_sum(draw: Sampler, weights: jax.Array, chunk: int) -> list[jax.Array]:
    """Returns the sums over pairs of w E; E is a matrix where it is drawn in factors."""
    missing = -len(weights) % chunk  # pairs of weight 0
    numbers = jnp.arange(len(weights) + missing, dtype=jnp.int32).reshape(-1, chunk)
    chunks = numbers, jnp.pad(weights, (0, missing)).reshape(-1, chunk)

    def sums(numbers: jax.Array, weights: jax.Array) -> list[jax.Array]:
        return [_combination(direction, weights) for direction in jax.vmap(draw)(numbers)]

    def add(totals: list[jax.Array], chunk: tuple[jax.Array, jax.Array]) -> Any:
        return jax.tree.map(jnp.add, totals, sums(*chunk)), None

    shapes = jax.eval_shape(sums, *(x[0] for x in chunks))
    zeros = [jnp.zeros(x.shape, x.dtype) for x in shapes]
    return jax.lax.scan(add, zeros, chunks)[0]


def _combination(directions: Direction, weights: jax.Array) -> jax.Array:
    """Returns the sum of w E over the leading axis of directions."""
    a, b = directions
    if b is None:
        return jnp.tensordot(weights, a, 1)
    weights = weights[:, None, None] / math.sqrt(a.shape[2])
    return jnp.tensordot(weights * a, b, ((0, 2), (0, 2)))


def _mean(x: Center, totals: list[jax.Array], count: jax.Array) -> Any:
    leaves, structure = jax.tree.flatten(x.params)
    steps = jax.tree.leaves(x.steps)
    grads = [
        (total.reshape(leaf.shape) / count / step).astype(leaf.dtype)
        for total, leaf, step in zip(totals, leaves, steps, strict=True)
    ]
    return structure.unflatten(grads)
