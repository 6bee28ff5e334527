"""The exact number of multiply-adds of a convolution.

The count is the number of triples (output position, kernel position, input position) that are
multiplied, over batch and features. Positions in the padding, or in the gaps of a dilated input,
are excluded, as in XLA's cost analysis. The count therefore does not depend on a framework's
padding, and the gradient, which visits the same triples once for the input and once for the
kernel, costs exactly twice the forward pass.

Per spatial axis, an output i and a kernel tap j read the position

    p = stride i + rhs_dilation j - low

of an input whose element n is at lhs_dilation n. With N elements, there is an element at p if
0 <= p <= lhs_dilation (N - 1) and lhs_dilation divides p.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def multiply_adds(
    lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int], params: Mapping[str, Any]
) -> int:
    """Counts the multiply-adds of a `conv_general_dilated`.

    Args:
      lhs: shape of the input.
      rhs: shape of the kernel, with the input features of one group.
      out: shape of the output, with the batch of one batch group.
      params: parameters of the equation.
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
    positions = math.prod(taps(*axis) for axis in axes)
    return out[out_spec[0]] * out[out_spec[1]] * rhs[rhs_spec[1]] * positions


def taps(
    inputs: int,
    kernel: int,
    outputs: int,
    stride: int,
    low: int,
    lhs_dilation: int,
    rhs_dilation: int,
) -> int:
    """Counts the pairs of an output and a kernel position that read an input element.

    Example:
      >>> taps(5, 3, 5, 1, 1, 1, 1)  # "SAME": one of the 5 x 3 taps is outside at each end
      13
    """
    if 0 in (inputs, kernel, outputs):
        return 0
    # Solves stride i = offset (mod lhs_dilation) for each tap j in closed form: the gradient of a
    # long signal has a kernel as long as the signal.
    offset = low - rhs_dilation * np.arange(kernel)
    common = math.gcd(stride, lhs_dilation)
    period = lhs_dilation // common
    first = offset // common * pow(stride // common, -1, period) % period
    lowest = np.maximum(0, -(-offset // stride))
    highest = np.minimum(outputs - 1, (offset + lhs_dilation * (inputs - 1)) // stride)
    counts = (highest - first) // period - (lowest - 1 - first) // period
    return int(np.sum(np.where((offset % common == 0) & (highest >= lowest), counts, 0)))
