"""The cost of one equation of a jaxpr, by its primitive.

    dense        dot_general and convolution: 2 FLOPs for each multiply-add, exact
    elementwise  1 for each output element; a reduction 1 for each input element
    estimated    factorizations, sorts and transforms: leading order of the textbook count

A transcendental function counts as 1, moving or converting data as 0. Operations without
floating-point numbers (indices, masks, random bits) count as 0, except products of integer
matrices, which count like other products. A complex multiply-add is 8 FLOPs. A primitive that is
in no table is reported as unknown.

Estimated costs are those for factorizations (`linear_algebra`), sorts (n log2 n comparisons),
Fourier transforms (5 N log2 N if complex, half if real: FFTW's convention) and Pallas kernels (the
declared cost).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxdescent import jax_internals as core
from jaxdescent.footprint.flop_counting import convolution, linear_algebra
from jaxdescent.footprint.flop_counting.operands import is_complex, real_per_complex, shape, size

DENSE, ELEMENTWISE, ESTIMATED = "dense", "elementwise", "estimated"


class Cost(NamedTuple):
    """FLOPs and the kind of their count."""

    kind: str
    flops: int


def cost(eqn: core.JaxprEqn) -> Cost | None:
    """Returns the cost of an equation without inner jaxprs, or None if it is unknown."""
    name = eqn.primitive.name
    kind = next((kind for kind, table in _TABLES.items() if name in table), None)
    if name in _FREE.split() or (kind != DENSE and not _is_floating(eqn)):
        return Cost(ELEMENTWISE, 0)
    flops = None if kind is None else _TABLES[kind][name](eqn)
    return None if kind is None or flops is None else Cost(kind, round(flops))


def _is_floating(eqn: core.JaxprEqn) -> bool:
    dtypes = [getattr(v.aval, "dtype", None) for v in (*eqn.invars, *eqn.outvars)]
    return any(d is not None and jax.dtypes.issubdtype(d, np.inexact) for d in dtypes)


def _per_output(eqn: core.JaxprEqn) -> int:
    return size(eqn.outvars[0])


def _per_input(eqn: core.JaxprEqn) -> int:
    return size(eqn.invars[0])


def _per_element_of_inputs(eqn: core.JaxprEqn) -> int:
    return sum(size(v) for v in eqn.invars)


def _window(eqn: core.JaxprEqn) -> int:
    return math.prod(eqn.params["window_dimensions"])


def _dot_general(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    terms = math.prod(shape(eqn.invars[0])[axis] for axis in contracted)
    return 2 * _per_output(eqn) * terms * real_per_complex(eqn)


def _ragged_dot_general(eqn: core.JaxprEqn) -> int:
    """Counts the products of each row on the left with the columns of its group."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batch) = numbers.dot_dimension_numbers
    bound = {*contracted, *batch, *numbers.rhs_group_dimensions}
    rhs = shape(eqn.invars[1])
    free = math.prod(length for axis, length in enumerate(rhs) if axis not in bound)
    return 2 * _per_input(eqn) * free * real_per_complex(eqn)


def _convolution(eqn: core.JaxprEqn) -> int:
    lhs, rhs = map(shape, eqn.invars)
    pairs = convolution.multiply_adds(lhs, rhs, shape(eqn.outvars[0]), eqn.params)
    return 2 * pairs * real_per_complex(eqn)


def _sort(eqn: core.JaxprEqn) -> int:
    length = shape(eqn.invars[0])[eqn.params["dimension"]]
    return _per_input(eqn) * max(0, length - 1).bit_length()


def _fft(eqn: core.JaxprEqn) -> float:
    points = math.prod(eqn.params["fft_lengths"])
    (source,), (result,) = eqn.invars, eqn.outvars
    is_real = [not is_complex(v) for v in (source, result)]
    transformed = size(result if is_real[1] else source)  # the real side of a half spectrum
    return (2.5 if any(is_real) else 5) * transformed * math.log2(max(points, 1))


def _pallas_call(eqn: core.JaxprEqn) -> int | None:
    """Returns the kernel's declared cost, or None without a declaration."""
    estimate = eqn.params["cost_estimate"]
    return None if estimate is None else estimate.flops


_MAPS = """
    abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp
    cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max
    min mul ne neg nextafter one_minus_square polygamma polynomial pow reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh zeta
"""

_REDUCTIONS = """
    argmax argmin approx_top_k cumlogsumexp cummax cummin cumprod cumsum reduce reduce_max
    reduce_min reduce_prod reduce_sum top_k
"""

_COLLECTIVES = """
    pmax pmin psum psum_invariant reduce_scatter unreduced_psum unreduced_reduce_scatter
"""

_WINDOWS = """
    reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add
"""

_SCATTERS = "scatter-add scatter-max scatter-min scatter-mul scatter-sub"

_FREE = """
    after_all all_gather all_gather_invariant all_gather_reduced all_to_all axis_index
    bitcast_convert_type broadcast_in_dim broadcast_to complex concatenate conj
    convert_element_type copy create_token dce_sink debug_callback debug_print device_put
    dynamic_slice dynamic_update_slice empty empty2 freeze from_edtype gather get imag
    inspect_sharding iota layout_constraint name new_ref optimization_barrier pad pbroadcast pin
    platform_index ppermute preduced pvary ragged_all_to_all random_bits random_clone
    random_fold_in random_seed random_split random_unwrap random_wrap real reduced_vary_cast_p
    reshape reshard rev rng_bit_generator rng_uniform scatter sharding_constraint slice split
    squeeze stack stop_gradient swap tie tile to_edtype transpose unpin unstack
    vary_unreduced_cast_p
"""

_Table = dict[str, Callable[[core.JaxprEqn], float | None]]

_TABLES: dict[str, _Table] = {
    DENSE: {
        "dot_general": _dot_general,
        "ragged_dot_general": _ragged_dot_general,
        "conv_general_dilated": _convolution,
    },
    ELEMENTWISE: {
        **dict.fromkeys(_MAPS.split(), _per_output),
        **dict.fromkeys(_REDUCTIONS.split(), _per_input),
        **dict.fromkeys(_COLLECTIVES.split(), _per_element_of_inputs),
        **dict.fromkeys(_WINDOWS.split(), lambda eqn: _per_output(eqn) * _window(eqn)),
        **dict.fromkeys(_SCATTERS.split(), lambda eqn: size(eqn.invars[2])),
        "addupdate": lambda eqn: size(eqn.invars[1]),
        "select_and_scatter": lambda eqn: size(eqn.invars[1]) * _window(eqn),
        "select_and_scatter_add": lambda eqn: _per_input(eqn) * _window(eqn),
    },
    ESTIMATED: {
        **linear_algebra.FORMULAS,
        "fft": _fft,
        "pallas_call": _pallas_call,
        "sort": _sort,
    },
}
