"""Random directions with filter normalization.

A ReLU network computes the same function if the weights of a layer are multiplied by a constant
and the weights of the next layer are divided by it. A random direction of fixed length, however,
looks steep for small weights and flat for large ones. Each filter of a random direction d is
therefore rescaled to the norm of the same filter of the weights w,

    d_f <- d_f ||w_f|| / ||d_f||

A plane along such directions is the same for all networks that differ by a rescaling that
multiplies every filter by one number. `filters.py` defines the filters of each layer. They cover
these rescalings, each of which leaves the function of a network unchanged:

    a layer times c, the next layer over c          any layers of Flax, ReLU or nothing between
    an output channel times c                       before batch normalization; a group or a layer
                                                    before group or layer normalization
    the channels before a group of a grouped        whole filters of the layer before, and of the
      convolution times c, the group over c         group
    a unit or head of query times c, of key over c  attention layers of Flax
    a unit or head of value times c, of out over c  attention layers of Flax
    the vector of a token times c                   before layer or RMS normalization
    a rank of lora_a times c, of lora_b over c      LoRA

They do not cover these, where one filter holds weights that are multiplied by different numbers:

    a single neuron of a dense layer or channel of a convolution, and its row of the next layer
    a head of an output projection [heads * dim, out] that merges the axes, or of a layer whose
      names are not Flax's: pass `filter_axes`
    a rotation of the ranks of LoRA, or of the units of a head, is not a rescaling

Biases and the scales of normalization layers are held fixed by default: a rescaling multiplies them
with their layer.

Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein 2018, arXiv:1712.09913.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.landscape import arguments, filters
from jaxdescent.numerics import at_least_float32, norm, widest_float

Axes = int | Sequence[int] | Literal["auto"]
FilterAxes = Axes | Callable[[str], Axes]
Biases = Literal["zero", "scaled"]


def random_directions(
    key: jax.Array,
    params: Any,
    count: int = 2,
    *,
    filter_axes: FilterAxes = "auto",
    biases: Biases = "zero",
) -> tuple[Any, ...]:
    """Draws Gaussian directions with filter normalization.

    Args:
      key: random key.
      params: pytree of real arrays, whose filters give the norms.
      count: number of directions.
      filter_axes: the axis, or axes, that enumerate the filters of leaves with two axes or more.
        "auto" reads the names and shapes of Flax: a filter holds the weights of one output of a
        kernel, the weights into one unit of one head for query, key and value of an attention
        layer, the weights out of it for its output, the vector of one token of an embedding,
        and one rank of LoRA. Other leaves are read as kernels, whose last axis enumerates the
        filters: pass 0 for weights [out, in] as in Equinox and -2 for a transposed kernel. If
        leaves differ, a function that is called with the path of a leaf, such as
        "['dense']['kernel']", and returns the axes or "auto".
      biases: direction of leaves with at most one axis, and of leaves named bias or scale:
        "zero", as in Li et al., or "scaled" to the norm over their last axis.

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
    direction: Any, params: Any, *, filter_axes: FilterAxes = "auto", biases: Biases = "zero"
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
    plan = filters.axes_within_filters(params, scaled=biases == "scaled")
    for i, (path, weights) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        ndim, place = jnp.ndim(weights), jax.tree_util.keystr(path)
        chosen = filter_axes(place) if ndim > 1 and callable(filter_axes) else filter_axes
        if ndim > 1 and chosen != "auto":
            plan[i] = _axes_within(chosen, place, ndim)
    if all(within is None for within in plan):
        raise ValueError(
            "biases must be 'scaled' if all leaves of params have at most one axis or are named "
            "bias or scale, got 'zero'"
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
    length, wanted = (norm(x.astype(dtype), axes, keepdims=True) for x in (part, weights))
    return part * jnp.where(length > 0, wanted / jnp.where(length > 0, length, 1), 0)


def _axes_within(chosen: Any, path: str, ndim: int) -> tuple[int, ...]:
    """Returns the axes within one filter, given the axes that enumerate the filters."""
    if isinstance(chosen, str):
        raise ValueError(f"filter_axes of params{path} must be axes or 'auto', got {chosen!r}")
    apart = [chosen] if isinstance(chosen, int) else [*chosen]
    for axis in apart:
        validation.integer_in(f"filter_axes of params{path}", axis, -ndim, ndim - 1)
    return tuple({*range(ndim)} - {axis % ndim for axis in apart})
