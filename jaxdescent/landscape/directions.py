"""Random directions with filter normalization.

A ReLU network computes the same function if the weights of a layer are multiplied by a constant
and the weights of the next layer are divided by it. A random direction of fixed length, however,
looks steep for small weights and flat for large ones. Each filter of a random direction d is
therefore rescaled to the norm of the same filter of the weights w,

    d_f <- d_f ||w_f|| / ||d_f||

and a plane along such directions is the same for all networks that differ by such a rescaling. A
filter holds the weights of one output: all but the last axis of a convolution kernel [h, w, in,
out], or a column of a dense kernel [in, out]. Leaves with at most one axis, such as biases and the
scales of normalization layers, are held fixed by default.

Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein 2018, arXiv:1712.09913.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape import arguments
from jaxdescent.numerics import at_least_float32, widest_float

FilterAxes = int | Sequence[int] | Callable[[str], int | Sequence[int]]
Biases = Literal["zero", "scaled"]


def random_directions(
    key: jax.Array,
    params: Any,
    count: int = 2,
    *,
    filter_axes: FilterAxes = -1,
    biases: Biases = "zero",
) -> tuple[Any, ...]:
    """Draws Gaussian directions with filter normalization.

    Args:
      key: random key.
      params: pytree of real arrays, whose filters give the norms.
      count: number of directions.
      filter_axes: the axis, or axes, that enumerate the filters: -1 in Flax. If leaves differ, a
        function that is called with the path of a leaf, such as "['dense']['kernel']", and returns
        the axes.
      biases: direction of leaves with at most one axis: "zero", as in Li et al., or
        "scaled" to the norm of the whole leaf.

    Returns:
      A tuple of `count` pytrees like the parameters, in float32 or wider.

    Raises:
      ValueError: a leaf is not floating point or lacks such an axis, an argument is out of range,
        or all leaves have at most one axis and `biases` is "zero".

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"kernel": jnp.full((4, 3), 2.0), "bias": jnp.ones(3)}
      >>> u, v = random_directions(jax.random.key(0), params)
      >>> jnp.linalg.norm(u["kernel"], axis=0).round(4).tolist(), u["bias"].tolist()
      ([4.0, 4.0, 4.0], [0.0, 0.0, 0.0])
    """
    plan = _plan(params, filter_axes, biases)
    validation.integer_in("count", count, 1)
    return _random(plan, count, key, params)


def filter_normalized(
    direction: Any, params: Any, *, filter_axes: FilterAxes = -1, biases: Biases = "zero"
) -> Any:
    """Rescales the filters of a direction to the norms of the filters of the parameters.

    Args:
      direction: pytree like the parameters. Filters that are zero stay zero.
      params: pytree of real arrays.
      filter_axes: as for `random_directions`.
      biases: as for `random_directions`.

    Returns:
      A pytree like the parameters, in float32 or wider.

    Raises:
      ValueError: as for `random_directions`, or the direction does not match the parameters.
    """
    plan = _plan(params, filter_axes, biases)
    validation.shaped_like("direction", direction, params)
    return _normalized(plan, direction, params)


def _plan(params: Any, filter_axes: FilterAxes, biases: Biases) -> tuple[Any, ...]:
    """Returns, for each leaf, the axes within a filter; None if the leaf is held fixed.

    Raises:
      ValueError: as for `random_directions`.
    """
    if biases not in ("zero", "scaled"):
        raise ValueError(f"biases must be 'zero' or 'scaled', got {biases!r}")
    arguments.check_params("params", params)
    plan: list[tuple[int, ...] | None] = []
    for path, weights in jax.tree_util.tree_leaves_with_path(params):
        ndim = jnp.ndim(weights)
        if ndim <= 1:
            plan.append(None if biases == "zero" else tuple(range(ndim)))
        else:
            plan.append(_axes_within(filter_axes, jax.tree_util.keystr(path), ndim))
    if all(within is None for within in plan):
        raise ValueError(
            "biases must be 'scaled' if all leaves of params have at most one axis, got 'zero'"
        )
    return tuple(plan)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _random(plan: tuple[Any, ...], count: int, key: jax.Array, params: Any) -> tuple[Any, ...]:
    keys = jax.random.split(key, count)
    drawn = jax.vmap(lambda key: _normalized(plan, _gaussian(key, params), params))(keys)
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(count))


@functools.partial(jax.jit, static_argnums=0)
def _normalized(plan: tuple[Any, ...], direction: Any, params: Any) -> Any:
    leaves, structure = jax.tree.flatten(params)
    parts = structure.flatten_up_to(direction)
    return structure.unflatten(
        _to_norms(part, weights, within)
        for part, weights, within in zip(parts, leaves, plan, strict=True)
    )


def _gaussian(key: jax.Array, params: Any) -> Any:
    """Draws all leaves at once, which compiles faster than one draw per leaf."""
    leaves, structure = jax.tree.flatten(params)
    size = sum(leaf.size for leaf in leaves)
    drawn = jax.random.normal(key, (size,), widest_float(params))
    parts = jnp.split(drawn, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return structure.unflatten(
        part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )


def _to_norms(part: jax.Array, weights: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Rescales a leaf of a direction to the norms of the weights over the axes."""
    dtype = at_least_float32(weights.dtype)
    part = part.astype(dtype)
    if axes is None:
        return jnp.zeros_like(part)
    length, wanted = _norm(part, axes), _norm(weights.astype(dtype), axes)
    return part * jnp.where(length > 0, wanted / jnp.where(length > 0, length, 1), 0)


def _norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Computes the Euclidean norm without overflow or underflow of squares."""
    size = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    unit = jnp.where((size > 0) & jnp.isfinite(size), size, jnp.ones_like(size))
    return unit * jnp.sqrt(jnp.sum((x / unit) ** 2, axis=axes, keepdims=True))


def _axes_within(filter_axes: FilterAxes, path: str, ndim: int) -> tuple[int, ...]:
    """Returns the axes within one filter."""
    chosen = filter_axes(path) if callable(filter_axes) else filter_axes
    apart = [chosen] if isinstance(chosen, int) else [*chosen]
    for axis in apart:
        validation.integer_in(f"filter_axes of params{path}", axis, -ndim, ndim - 1)
    return tuple({*range(ndim)} - {axis % ndim for axis in apart})
