"""The multiply-adds of a convolution, counted one by one.

Counted are the triples (output position, kernel position, input position) that meet, over
batch and features; those that fall on padding, or on a hole that dilating the input made, are
not: they multiply nothing. XLA's cost analysis counts the same. It has two merits. The count
does not depend on how a framework pads, and a gradient, which runs over the same triples
for the input and once more for the kernel, costs exactly twice the forward pass.

Per spatial axis, an output i and a kernel tap j read the position

    p = stride i + rhs_dilation j - low

of an input whose element n lies at lhs_dilation n; with N elements, there is one if
0 <= p <= lhs_dilation (N - 1) and lhs_dilation divides p.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def multiply_adds(
    lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int], params: Mapping[str, Any]
) -> int:
    """The multiply-adds of a `conv_general_dilated`.

    Args:
      lhs: shape of the input.
      rhs: shape of the kernel; its input features are those of one group.
      out: shape of the output; its batch is that of one batch group.
      params: of the equation.
    """
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    axes = zip(
        [lhs[axis] for axis in lhs_spec[2:]],
        [rhs[axis] for axis in rhs_spec[2:]],
        [out[axis] for axis in out_spec[2:]],
        params["window_strides"],
        [low for low, _ in params["padding"]],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    meetings = math.prod(taps(*axis) for axis in axes)
    return out[out_spec[0]] * out[out_spec[1]] * rhs[rhs_spec[1]] * meetings


def taps(
    inputs: int,
    kernel: int,
    outputs: int,
    stride: int,
    low: int,
    lhs_dilation: int,
    rhs_dilation: int,
) -> int:
    """How many pairs of an output and a kernel position read an element of the input.

    Example:
      >>> taps(5, 3, 5, 1, 1, 1, 1)  # "SAME": each end loses a tap of 5 x 3
      13
    """
    if 0 in (inputs, kernel, outputs):
        return 0
    # For each tap j: stride i = offset (mod lhs_dilation), in closed form, since a long
    # signal's gradient has a kernel as long as the signal.
    offset = low - rhs_dilation * np.arange(kernel)
    common = math.gcd(stride, lhs_dilation)
    period = lhs_dilation // common
    first = offset // common * pow(stride // common, -1, period) % period
    lowest = np.maximum(0, -(-offset // stride))
    highest = np.minimum(outputs - 1, (offset + lhs_dilation * (inputs - 1)) // stride)
    found = (highest - first) // period - (lowest - 1 - first) // period
    return int(np.sum(np.where((offset % common == 0) & (highest >= lowest), found, 0)))
