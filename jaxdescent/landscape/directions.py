"""Random directions, normalized by filters.

A network with ReLUs computes the same if a layer's weights are multiplied by a and the next
layer's divided by it, but a random direction of one length looks steep beside small weights and
flat beside large ones. So each filter of a random direction d is given the norm that this filter
has in the weights w,

    d_f <- d_f ||w_f|| / ||d_f||

and a picture in the plane of such directions is the same for all rescaled copies. A filter is
what makes one output: of a convolution's kernel [h, w, in, out] all but the last index, of a
dense kernel [in, out] a column. Leaves with one axis or none, biases and the scales of norms,
stay as they are.

Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein 2018, arXiv:1712.09913.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape import inputs

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
    """Gaussian directions, normalized by filters.

    Args:
      key: from which they are drawn.
      params: pytree of real arrays, whose filters give the norms.
      count: how many.
      filter_axes: the axis, or axes, whose indices tell filters apart, -1 in Flax; where
        leaves differ, a function from a leaf's path, such as "['dense']['kernel']", to it.
      biases: what becomes of leaves with one axis or none: "zero", as Li et al. do, or
        "scaled", to the norm that the whole leaf has.

    Returns:
      So many pytrees like the parameters, of float32 at least.

    Raises:
      ValueError: a leaf is not of floating point or has no such axis, an argument is out of its
        range, or all leaves have one axis
        and `biases` is "zero".

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
    """A direction whose filters have the norms that they have in the parameters.

    Args:
      direction: pytree like the parameters. A filter of it that is zero stays so.
      params: pytree of real arrays.
      filter_axes: as for `random_directions`.
      biases: as for `random_directions`.

    Returns:
      A pytree like the parameters, of float32 at least.

    Raises:
      ValueError: as for `random_directions`; also if the direction is not like the parameters.
    """
    plan = _plan(params, filter_axes, biases)
    validation.shaped_like("direction", direction, params)
    return _normalized(plan, direction, params)


def _plan(params: Any, filter_axes: FilterAxes, biases: Biases) -> tuple[Any, ...]:
    """For each leaf the axes within a filter; None where the leaf stays.

    Raises:
      ValueError: as for `random_directions`.
    """
    if biases not in ("zero", "scaled"):
        raise ValueError(f"biases must be 'zero' or 'scaled', got {biases!r}")
    inputs.parameters("params", params)
    plan: list[tuple[int, ...] | None] = []
    for path, weights in jax.tree_util.tree_leaves_with_path(params):
        ndim = jnp.ndim(weights)
        if ndim <= 1:
            plan.append(None if biases == "zero" else tuple(range(ndim)))
        else:
            plan.append(_axes_within(filter_axes, jax.tree_util.keystr(path), ndim))
    if all(within is None for within in plan):
        raise ValueError(
            "biases must be 'scaled' for params of which all leaves have one axis, got 'zero'"
        )
    return tuple(plan)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _random(plan: tuple[Any, ...], count: int, key: jax.Array, params: Any) -> tuple[Any, ...]:
    one = lambda each: _normalized(plan, _gaussian(each, params), params)
    drawn = jax.vmap(one)(jax.random.split(key, count))
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
    """All numbers in one draw, which compiles faster than one for each leaf."""
    leaves, structure = jax.tree.flatten(params)
    size = sum(leaf.size for leaf in leaves)
    drawn = jax.random.normal(key, (size,), inputs.widest(params))
    parts = jnp.split(drawn, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return structure.unflatten(
        part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )


def _to_norms(part: jax.Array, weights: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """The part scaled so that its norms over the axes are those of the weights."""
    dtype = inputs.wide(weights.dtype)
    part = part.astype(dtype)
    if axes is None:
        return jnp.zeros_like(part)
    length, wanted = _norm(part, axes), _norm(weights.astype(dtype), axes)
    return part * jnp.where(length > 0, wanted / jnp.where(length > 0, length, 1), 0)


def _norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The Euclidean norm, of numbers whose squares may overflow or vanish too."""
    size = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    unit = jnp.where((size > 0) & jnp.isfinite(size), size, jnp.ones_like(size))
    return unit * jnp.sqrt(jnp.sum((x / unit) ** 2, axis=axes, keepdims=True))


def _axes_within(filter_axes: FilterAxes, path: str, ndim: int) -> tuple[int, ...]:
    """The axes that belong to one filter."""
    chosen = filter_axes(path) if callable(filter_axes) else filter_axes
    apart = [chosen] if isinstance(chosen, int) else [*chosen]
    for axis in apart:
        validation.integer_in(f"filter_axes of params{path}", axis, -ndim, ndim - 1)
    return tuple({*range(ndim)} - {axis % ndim for axis in apart})
