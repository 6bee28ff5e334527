"""Hidden units by the names of their parameters, and their replacement.

    h = f(x W + b),    y = h V + c

Replacing unit i of h gives column i of W a new initial value, sets b_i to 0 and row i of V to 0.
What the unit contributed on average, mean(h_i) V_i, is added to c, so that the network changes as
little as possible.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation
from jaxdescent.containers import leaves_by_path, params_like
from jaxdescent.numerics import at_least_float32

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]
"""Called as `initializer(key, shape, dtype)`, like the initializers of `jax.nn`."""


class HiddenLayer(NamedTuple):
    """Parameters around a layer of hidden units, by their paths, such as "dense_0/kernel".

    Kernels are laid out as in Flax: of dense layers f[inputs, units] or of convolutions
    f[..., inputs, units].

    Attributes:
      kernel: W, the incoming weights, whose last axis is the units.
      next_kernel: V, the outgoing weights, whose second-last axis is the units.
      bias: b, f[units], or None.
      next_bias: c, f[outputs], or None; without it the mean contribution of a replaced unit is
        lost.
    """

    kernel: str
    next_kernel: str
    bias: str | None = None
    next_bias: str | None = None


class Place(NamedTuple):
    """The positions of a layer's parameters among the leaves, and its number of units."""

    kernel: int
    next_kernel: int
    bias: int | None
    next_bias: int | None
    units: int


def check_layers(layers: Sequence[HiddenLayer]) -> tuple[HiddenLayer, ...]:
    """Returns the layers as a tuple; raises unless there is at least one, and all are."""
    if isinstance(layers, HiddenLayer) or not isinstance(layers, Sequence) or not layers:
        raise ValueError(
            "layers must be a sequence with at least one jd.streaming.HiddenLayer, got "
            f"{validation.shown(layers)}"
        )
    for layer in layers:
        if not isinstance(layer, HiddenLayer):
            raise TypeError(
                f"layers must be of type jd.streaming.HiddenLayer, got {validation.shown(layer)}"
            )
    return tuple(layers)


def check_initializer(initializer: Any) -> Initializer:
    """Returns an initializer, He's uniform one by default; raises unless it is a function."""
    if initializer is None:
        return jax.nn.initializers.he_uniform()
    if not callable(initializer):
        raise TypeError(
            "initializer must be a function such as jax.nn.initializers.he_uniform(), got "
            f"{validation.shown(initializer)}"
        )
    return initializer


def find_places(layers: Sequence[HiddenLayer], params: Any) -> list[Place]:
    """Returns where the parameters of each layer are.

    Raises:
      ValueError: a parameter is missing, or shapes do not fit.
    """
    leaves = leaves_by_path(params)
    names = ["/".join(path) for path in leaves]
    shapes = [np.shape(leaf) for leaf in leaves.values()]

    def index(layer: HiddenLayer, field: str) -> Any:
        name = getattr(layer, field)
        if name is None:
            return None
        if name not in names:
            raise ValueError(f"layers must name in {field} one of {', '.join(names)}, got {name!r}")
        return names.index(name)

    places = []
    for layer in layers:
        place = Place(*(index(layer, field) for field in HiddenLayer._fields), units=0)
        if len(shapes[place.kernel]) < 2:
            raise ValueError(
                f"layers must have kernels of at least two axes, got shape {shapes[place.kernel]} "
                f"for {layer.kernel}"
            )
        units = shapes[place.kernel][-1]
        wanted = (
            (layer.next_kernel, place.next_kernel, slice(-2, -1), (units,)),
            (layer.bias, place.bias, slice(None), (units,)),
            (layer.next_bias, place.next_bias, slice(None), shapes[place.next_kernel][-1:]),
        )
        for name, position, axes, sizes in wanted:
            if position is not None and shapes[position][axes] != sizes:
                raise ValueError(
                    f"layers must have parameters that fit {layer.kernel} with {units} units, got "
                    f"shape {shapes[position]} for {name}"
                )
        places.append(place._replace(units=units))
    return places


def check_activations(activations: Any, places: Sequence[Place]) -> list[jax.Array]:
    """Returns the activations of each layer as arrays of at least 32 bits.

    Raises:
      ValueError: there is not one array f[..., units] for each layer.
    """
    if not isinstance(activations, (list, tuple)) or len(activations) != len(places):
        raise ValueError(
            "update(grads, state, params, activations=activations) needs one array f[..., units] "
            f"for each of {len(places)} layers, got {_shapes(activations)}; "
            "jd.streaming.online_loop passes them with has_activations=True"
        )
    for h, place in zip(activations, places, strict=True):
        if np.shape(h)[-1:] != (place.units,) or not np.size(h):
            raise ValueError(
                f"activations must have shapes [..., units] with units "
                f"{[place.units for place in places]}, got {_shapes(activations)}"
            )
    return [jnp.asarray(h, at_least_float32(jnp.result_type(h))) for h in activations]


def _shapes(activations: Any) -> Any:
    if not isinstance(activations, (list, tuple)):
        return validation.shown(getattr(activations, "shape", activations))
    return [np.shape(h) for h in activations]


def over_examples(h: jax.Array) -> jax.Array:
    """Returns f[units], the mean over all axes but the last."""
    return jnp.mean(h, axis=tuple(range(h.ndim - 1)))


def replace_units(
    key: jax.Array,
    params: Any,
    places: Sequence[Place],
    replaced: Sequence[jax.Array],
    means: Sequence[jax.Array],
    initializer: Initializer,
) -> tuple[Any, Any]:
    """Replaces units, layer by layer, as in the published code.

    Args:
      key: a random key.
      params: the parameters.
      places: of the layers.
      replaced: bool[units] for each layer.
      means: f[units] for each layer, the mean activations.
      initializer: of the incoming weights.

    Returns:
      The parameters, and a tree of bool like them, True for each weight that was replaced.
    """
    leaves, structure = jax.tree.flatten(params)
    masks = [jnp.zeros(np.shape(leaf), bool) for leaf in leaves]
    keys = jax.random.split(key, len(places))
    for key, place, chosen, mean in zip(keys, places, replaced, means, strict=True):
        kernel, outgoing = leaves[place.kernel], leaves[place.next_kernel]
        if place.next_bias is not None:
            axes = tuple(range(outgoing.ndim - 2))
            weights = jnp.sum(outgoing, axis=axes).astype(mean.dtype)
            lost = jnp.where(chosen, mean, 0) @ weights
            bias = leaves[place.next_bias]
            leaves[place.next_bias] = (bias + lost).astype(bias.dtype)
        fresh = initializer(key, kernel.shape, kernel.dtype)
        leaves[place.kernel] = jnp.where(chosen, fresh, kernel)
        masks[place.kernel] |= chosen
        if place.bias is not None:
            bias = leaves[place.bias]
            leaves[place.bias] = jnp.where(chosen, 0, bias).astype(bias.dtype)
            masks[place.bias] |= chosen
        rows = chosen[:, None]
        leaves[place.next_kernel] = jnp.where(rows, 0, outgoing).astype(outgoing.dtype)
        masks[place.next_kernel] |= rows
    return jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, masks)


def reset_state(state: Any, initial: Any, replaced: Any) -> Any:
    """Returns an optimizer's state with the values of an initial state where units were replaced.

    Only trees in the state that are like the parameters change, such as Adam's moments.

    Args:
      state: the state.
      initial: the state that `init` returns for the new parameters.
      replaced: a tree of bool like the parameters.
    """
    structure = jax.tree.structure(replaced)
    shapes = [mask.shape for mask in jax.tree.leaves(replaced)]

    def like_params(node: Any) -> bool:
        leaves, found = jax.tree.flatten(node)
        return found == structure and [np.shape(leaf) for leaf in leaves] == shapes

    def choose(node: Any, fresh: Any) -> Any:
        if not like_params(node):
            return node
        return jax.tree.map(lambda mask, new, old: jnp.where(mask, new, old), replaced, fresh, node)

    return jax.tree.map(choose, state, initial, is_leaf=like_params)


def prepare(
    layers: Sequence[HiddenLayer], updates: Any, params: Any, activations: Any
) -> tuple[Any, list[Place], list[jax.Array]]:
    """Returns the parameters that have gradients, and the places and activations of the layers.

    Raises:
      ValueError: the parameters or the activations are missing, or do not fit.
    """
    if params is None:
        raise ValueError("update(grads, state, params) needs params, which are replaced")
    params = params_like(params, updates)
    places = find_places(layers, params)
    return params, places, check_activations(activations, places)


def updates_with_replacements(
    inner: optax.GradientTransformation,
    key: jax.Array,
    params: Any,
    updates: Any,
    inner_state: Any,
    places: Sequence[Place],
    chosen: Sequence[jax.Array],
    means: Sequence[jax.Array],
    initializer: Initializer,
) -> tuple[Any, Any]:
    """Returns the updates and the state of `inner` after units were replaced, too.

    Where nothing is replaced, the updates stay as they are, without the rounding of a difference.

    Args:
      inner: the optimizer that made `updates`.
      key: a random key.
      params: the parameters before the updates.
      updates: the updates of `inner`.
      inner_state: its state after them.
      places: of the layers.
      chosen: bool[units] for each layer, True for units to replace.
      means: f[units] for each layer, the mean activations.
      initializer: of the incoming weights.
    """
    moved = optax.apply_updates(params, updates)
    final, replaced = replace_units(key, moved, places, chosen, means, initializer)

    def choose(new: jax.Array, old: jax.Array, x: jax.Array, update: jax.Array) -> jax.Array:
        return jnp.where(new == old, update, (new - x).astype(update.dtype))

    updates = jax.tree.map(choose, final, moved, params, updates)
    return updates, reset_state(inner_state, inner.init(final), replaced)
