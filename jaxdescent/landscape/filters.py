"""Which weights of a leaf form one filter.

The names and shapes of Flax (nnx and linen) decide; other names are read like a kernel without a
bias. Leading axes of stacked layers enumerate filters if the bias has them, too.

    leaf                         one filter
    kernel                       the weights of one output: all axes that the bias lacks; without a
                                 bias all axes but the last, as in Dense, Conv and the RNN cells
    query, key, value kernels    the weights into one unit of one head, [in] of [in, heads, dim]
      of an attention layer
    out kernel of an attention   the weights out of one unit of one head, [out] of
      layer                      [heads, dim, out]
    embedding                    the vector of one token, [features] of [tokens, features]
    lora_a                       the weights into one rank, [in] of [in, rank]
    lora_b                       the weights out of one rank, [out] of [rank, out]
    bias, scale, and leaves      none: held fixed, or scaled to the norm over the last axis; each
      with at most one axis      number by itself in a query, key or value bias
"""

from typing import Any

import jax
import jax.numpy as jnp

_ATTENTION = ("query", "key", "value", "out")
_WITHIN_ONE = {"embedding": -1, "lora_a": -2, "lora_b": -1}

Axes = tuple[int, ...]
Names = tuple[str, ...]


def axes_within_filters(params: Any, *, scaled: bool) -> list[Axes | None]:
    """Returns, for each leaf, the axes within one filter; None if the leaf is held fixed.

    Args:
      params: pytree of arrays.
      scaled: whether biases and scales are scaled rather than held fixed.
    """
    leaves = [
        (_names(path), jnp.shape(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    shapes = dict(leaves)
    return [_axes_within(names, shape, shapes, scaled) for names, shape in leaves]


def _names(path: Any) -> Names:
    """Returns the names along a path, without the `.value` of a Flax variable."""
    if path and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def _axes_within(names: Names, shape: Axes, shapes: dict[Names, Axes], scaled: bool) -> Axes | None:
    name = names[-1] if names else ""
    layer = _layer_of_attention(names, shapes)
    if len(shape) <= 1 or name in ("bias", "scale"):
        of_units = layer in ("query", "key", "value")
        return (() if of_units else tuple(range(len(shape)))[-1:]) if scaled else None
    if layer and name == "kernel" and len(shape) >= 3:
        return (len(shape) - (1 if layer == "out" else 3),)
    if name in _WITHIN_ONE:
        return (len(shape) + _WITHIN_ONE[name],)
    bias = shapes.get((*names[:-1], "bias"), ()) if name == "kernel" else ()
    outputs = _output_axes(shape, bias)
    return tuple(axis for axis in range(len(shape)) if axis not in outputs)


def _layer_of_attention(names: Names, shapes: dict[Names, Axes]) -> str:
    """Returns which layer of an attention layer a leaf belongs to; "" if to none."""
    layers = [(*names[:-2], layer, "kernel") for layer in _ATTENTION]
    inside = len(names) >= 2 and names[-2] in _ATTENTION and all(x in shapes for x in layers)
    return names[-2] if inside else ""


def _output_axes(kernel: Axes, bias: Axes) -> list[int]:
    """Returns the axes of the kernel that have the sizes of the bias, in order, from the last."""
    axis, found = len(kernel), []
    for size in reversed([size for size in bias if size != 1]):
        axis = max((a for a in range(axis) if kernel[a] == size), default=-1)
        if axis < 0:
            return [len(kernel) - 1]
        found.append(axis)
    return found or [len(kernel) - 1]
