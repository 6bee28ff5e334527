"""Convolutions that are fast inside of compiled loops on CPUs.

    y[n, i, :] = sum over k of x[n, stride * i + dilation * k, :] @ kernel[k]

On a CPU this is a sum of matrix products, one for each row of the kernel: shifted copies of x side
by side, times the row. XLA's own convolution takes more than ten times as long inside a loop as
outside (`experiments.benchmarks.convolution`), and training steps and agents run in loops. The
copies need as much memory as x, times the length of a row. On other devices XLA's convolution is
used.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def convolve(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int] | None = None,
    **options: Any,
) -> jax.Array:
    """Computes a convolution, as `jax.lax.conv_general_dilated` with channels last.

    Args:
      inputs: f[n, *places, inputs].
      kernel: f[*kernel_places, inputs, outputs].
      strides: of the windows, one for each axis of places.
      padding: "SAME", "VALID" or pairs of numbers of zeros.
      rhs_dilation: of the kernel; by default 1.
      **options: of `jax.lax.conv_general_dilated`, given for layers of Flax.

    Returns:
      f[n, *places, outputs].

    Example:
      >>> convolve(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), (1, 1), "VALID").shape
      (1, 3, 3, 4)
    """
    axes = range(1, inputs.ndim - 1)
    dilation = tuple(rhs_dilation or [1] * len(axes))
    if jax.default_backend() != "cpu" or not _is_plain(options):
        letters = "NWC", "WIO", "NWC"
        if len(axes) == 2:
            letters = "NHWC", "HWIO", "NHWC"
        options = {"dimension_numbers": letters, **options}
        return jax.lax.conv_general_dilated(
            inputs, kernel, strides, padding, rhs_dilation=dilation, **options
        )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[:-2], strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(inputs.shape[1:-1], reach, strides, padding)
    padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    lengths = [padded.shape[axis] - r for axis, r in zip(axes, reach, strict=True)]

    def shifted(place: Sequence[int]) -> jax.Array:
        first = [d * k for d, k in zip(dilation, place, strict=True)]
        last = [f + length + 1 for f, length in zip(first, lengths, strict=True)]
        start, stop = (0, *first, 0), (len(padded), *last, padded.shape[-1])
        return jax.lax.slice(padded, start, stop, (1, *strides, 1))

    def row(place: tuple[int, ...]) -> jax.Array:
        columns = [shifted((*place, k)) for k in range(kernel.shape[-3])]
        return jnp.matmul(
            jnp.concatenate(columns, axis=-1),
            kernel[place].reshape(-1, kernel.shape[-1]),
            precision=options.get("precision"),
            preferred_element_type=options.get("preferred_element_type"),
        )

    rows = itertools.product(*map(range, kernel.shape[:-3]))
    return functools.reduce(jnp.add, map(row, rows))


def _is_plain(options: dict[str, Any]) -> bool:
    """Returns True if the inputs are not dilated and channels are in one group."""
    dilated = set(options.get("lhs_dilation") or [1]) != {1}
    return not dilated and options.get("feature_group_count", 1) == 1
