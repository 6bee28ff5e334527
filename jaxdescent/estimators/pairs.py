"""Estimates from antithetic pairs of points around the parameters.

    x+ , x- = x + h d,  x - h d          h = sigma * scale, for each pair a random direction d
    grads   = mean of w d / h            w = (f(x+) - f(x-)) / 2, for example

Even powers of h cancel in the difference f(x+) - f(x-), so that w / h is exact if f is quadratic
along d. Pairs are drawn independently: the sample variance of w d / h, divided by their number, is
an unbiased estimate of the variance of the mean.

Everything is computed in float32 or wider; the points and the gradient have the dtypes of x.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.estimators.estimator import Estimate


class Center(NamedTuple):
    """The checked arguments of an estimate, and the function's value at the parameters.

    Attributes:
      function: Called as `function(params)`; returns a scalar.
      params: the parameters, a tree of arrays.
      steps: h, a tree of arrays of at least 32 bits that broadcast against the parameters.
      value: f[], the value at the parameters.
      aux: the function's second output there, or None.
    """

    function: Callable[[Any], jax.Array]
    params: Any
    steps: Any
    value: jax.Array
    aux: Any


def check_samples(num_samples: int) -> int:
    """Returns the number of pairs; raises ValueError unless `num_samples` is even and positive."""
    validation.integer_in("num_samples", num_samples, 2)
    if num_samples % 2:
        raise ValueError(
            f"num_samples must be an even integer, got {num_samples}; samples are antithetic pairs"
        )
    return num_samples // 2


def center(
    function: Callable[..., Any],
    params: Any,
    args: tuple[Any, ...],
    *,
    key: Any,
    sigma: ArrayLike,
    scale: Any,
    has_aux: bool,
) -> tuple[jax.Array, Center]:
    """Checks the arguments of an estimate; returns the key and the center of the pairs.

    Raises:
      TypeError: the key or a leaf of the parameters has the wrong type.
      ValueError: the parameters are not real, `sigma` is out of its range, or the function does
        not return a real scalar.
    """
    key = validation.random_key("key", key)
    params = validation.arrays("params", params, validation.PARTITION)
    validation.check_floating("params", params, validation.PARTITION)
    if not jax.tree.leaves(params):
        raise ValueError(f"params must hold at least one array, got {validation.shown(params)}")
    sigma = jnp.asarray(validation.positive_number("sigma", sigma), numerics.widest_float(params))
    if scale is None:
        steps = jax.tree.map(lambda _: sigma, params)
    else:
        validation.shaped_like("scale", scale, params)
        steps = jax.tree.map(lambda unit: sigma * unit, scale)
    with validation.tracing("function"):
        value = function(params, *args)
    value, aux = value if has_aux else (value, None)
    validation.check_scalar("function", value)

    def value_at(x: Any) -> jax.Array:
        value = function(x, *args)
        return value[0] if has_aux else value

    return key, Center(value_at, params, steps, value, aux)


def draw(sampler: Callable[..., jax.Array], key: jax.Array, params: Any, pairs: int) -> Any:
    """Returns random directions, a tree [pairs, ...] like the parameters."""
    dtype = numerics.widest_float(params)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((pairs, *x.shape), dtype), params)
    return optax.tree.random_like(key, shapes, sampler, dtype)


def at_pairs(function: Callable[[Any], Any], center: Center, directions: Any) -> tuple[Any, Any]:
    """Returns the outputs at x + h d and at x - h d, trees with a leading axis of pairs."""

    def move(x: jax.Array, step: jax.Array, direction: jax.Array) -> jax.Array:
        change = step * direction
        return jnp.concatenate([x + change, x - change]).astype(x.dtype)

    points = jax.tree.map(move, center.params, center.steps, directions)
    outputs = jax.vmap(function)(points)
    pairs = len(jax.tree.leaves(directions)[0])
    return (
        jax.tree.map(lambda x: x[:pairs], outputs),
        jax.tree.map(lambda x: x[pairs:], outputs),
    )


def values_at_pairs(center: Center, directions: Any) -> tuple[jax.Array, jax.Array]:
    """Returns f[pairs], the values at x + h d, and f[pairs], at x - h d, of at least 32 bits."""
    plus, minus = at_pairs(center.function, center, directions)
    dtype = numerics.at_least_float32(plus.dtype)
    return plus.astype(dtype), minus.astype(dtype)


def half_differences(plus: jax.Array, minus: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the weights w = (f(x+) - f(x-)) / 2, and bool[pairs], True where w is finite."""
    weights = plus / 2 - minus / 2  # halved first, so that the difference cannot overflow
    return weights, jnp.isfinite(weights)


def slopes(center: Center, directions: Any, weights: jax.Array) -> Any:
    """Returns w d / h, the contribution of each pair, a tree [pairs, ...]."""

    def slope(step: jax.Array, direction: jax.Array) -> jax.Array:
        return weights.reshape(-1, *(1,) * (direction.ndim - 1)) * direction / step

    return jax.tree.map(slope, center.steps, directions)


def mean_of_pairs(
    center: Center,
    contributions: Any,
    usable: jax.Array,
    nonfinite: jax.Array,
    *,
    has_variance: bool = True,
) -> Estimate:
    """Returns the mean of the contributions of usable pairs, and its variance.

    Args:
      center: the center of the pairs.
      contributions: tree [pairs, ...].
      usable: bool[pairs].
      nonfinite: i32[], number of pairs that were not finite.
      has_variance: whether contributions are independent, so that the variance can be estimated.
    """
    count = jnp.sum(usable, dtype=jnp.int32)

    def total(x: jax.Array) -> jax.Array:
        rows = usable.reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.sum(jnp.where(rows, x, 0), axis=0)

    def like_params(tree: Any) -> Any:
        return jax.tree.map(lambda x, p: x.astype(p.dtype), tree, center.params)

    mean = jax.tree.map(lambda x: total(x) / count, contributions)
    variance = None
    if has_variance:
        variance = like_params(
            jax.tree.map(
                lambda x, m: total((x - m) ** 2) / (count * (count - 1.0)), contributions, mean
            )
        )
    return Estimate(center.value, like_params(mean), variance, nonfinite, center.aux)
