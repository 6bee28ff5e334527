"""Evaluates a function at matrices W + c A B' without computing them.

    x (W + c A B')  =  x W + c (x A) B'          A[m, r], B[n, r], r small
    rows i          :  W[i] + c A[i] B'

With `jax.vmap` over many A and B, the product x W has one W: it is one matrix product for all of
them, and their matrices take no memory. The function is traced to a jaxpr, and its equations are
evaluated one by one. Products, transposes, casts and lookups of rows keep a matrix in factors;
every other operation computes the matrix first. The result is the same up to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import jax_internals as core
from jaxdescent.towers.replay import dataflow

_CUSTOM_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call")


class FactoredMatrix(NamedTuple):
    """The matrix base + step a b'.

    Attributes:
      base: f[m, n].
      step: f[], at least 32 bits, as a and b.
      a: f[m, r].
      b: f[n, r].
    """

    base: jax.Array
    step: jax.Array
    a: jax.Array
    b: jax.Array

    def matrix(self) -> jax.Array:
        """Returns f[m, n], in the dtype of the base."""
        change = self.step * jnp.matmul(self.a, self.b.T)
        return (self.base + change).astype(self.base.dtype)


def evaluate(jaxpr: core.ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    """Returns the outputs of a jaxpr.

    Args:
      jaxpr: the result of `jax.make_jaxpr(function)(...)`.
      args: one array, or one `FactoredMatrix` of its shape and dtype, for each input of the jaxpr.

    Example:
      >>> w, a, b = jnp.ones((2, 3)), jnp.ones((2, 1)), jnp.ones((3, 1))
      >>> jaxpr = jax.make_jaxpr(lambda w: jnp.ones(2) @ w)(w)
      >>> evaluate(jaxpr, [FactoredMatrix(w, jnp.float32(0.5), a, b)])[0].tolist()
      [3.0, 3.0, 3.0]
    """
    names = [*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars]
    values: dict[Any, Any] = dict(zip(names, [*jaxpr.consts, *args], strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.jaxpr.eqns:
        results = _results(eqn, [value_of(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.jaxpr.outvars]


def _results(eqn: core.JaxprEqn, operands: list[Any]) -> Sequence[Any]:
    if not any(isinstance(x, FactoredMatrix) for x in operands):
        return core.bind(eqn, operands)
    inner = dataflow.called(eqn) or dataflow.called(eqn, _CUSTOM_DERIVATIVES)
    if inner is not None:
        return evaluate(inner, operands)
    rule = _RULES.get(eqn.primitive.name)
    result = None if rule is None else rule(eqn, operands)
    if result is None:
        return core.bind(eqn, [_array(x) for x in operands])
    return [result]


def _array(x: Any) -> Any:
    return x.matrix() if isinstance(x, FactoredMatrix) else x


def _product(eqn: core.JaxprEqn, operands: list[Any]) -> Any:
    """Returns a product along one axis of a matrix in factors; None for other products."""
    contracted, batched = eqn.params["dimension_numbers"]
    left, right = operands
    if isinstance(left, FactoredMatrix):
        right = _array(right)
    is_left = isinstance(left, FactoredMatrix)
    matrix, x = (left, right) if is_left else (right, left)
    if batched[0] or len(contracted[0]) != 1 or x.dtype != matrix.base.dtype:
        return None
    (axis,), (x_axis,) = contracted if is_left else reversed(contracted)
    near, far = (matrix.a, matrix.b) if axis == 0 else (matrix.b, matrix.a)
    precision = eqn.params["precision"]

    def product(left: Any, right: Any, left_axis: int, right_axis: int) -> jax.Array:
        axes = (((left_axis,), (right_axis,)), ((), ()))
        return jax.lax.dot_general(
            left, right, axes, precision=precision, preferred_element_type=far.dtype
        )

    near = near.astype(x.dtype)
    if is_left:
        base = core.bind(eqn, [matrix.base, x])[0]
        change = product(far, matrix.step * product(near, x, 0, x_axis), 1, 0)
    else:
        base = core.bind(eqn, [x, matrix.base])[0]
        change = product(matrix.step * product(x, near, x_axis, 0), far, x.ndim - 1, 1)
    return (base + change).astype(base.dtype)


def _transpose(eqn: core.JaxprEqn, operands: list[Any]) -> Any:
    matrix = operands[0]
    if tuple(eqn.params["permutation"]) == (0, 1):
        return matrix
    return FactoredMatrix(core.bind(eqn, [matrix.base])[0], matrix.step, matrix.b, matrix.a)


def _cast(eqn: core.JaxprEqn, operands: list[Any]) -> Any:
    """Returns the matrix with another base; None for a cast to integers or to complex numbers."""
    matrix = operands[0]
    if not jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
        return None
    return matrix._replace(base=core.bind(eqn, [matrix.base])[0])


def _copy(eqn: core.JaxprEqn, operands: list[Any]) -> Any:
    del eqn
    return operands[0]


def _rows(eqn: core.JaxprEqn, operands: list[Any]) -> Any:
    """Returns whole rows of a matrix in factors, as of an embedding; None for other lookups."""
    matrix, index = operands
    dims = eqn.params["dimension_numbers"]
    last = jnp.ndim(index) - 1 + len(dims.offset_dims) - 1
    looks_up_rows = (
        isinstance(matrix, FactoredMatrix)
        and not isinstance(index, FactoredMatrix)
        and tuple(eqn.params["slice_sizes"]) == (1, matrix.base.shape[1])
        and dims.collapsed_slice_dims == dims.start_index_map == (0,)
        and dims.offset_dims == (last,)
    )
    if not looks_up_rows:
        return None
    base = core.bind(eqn, [matrix.base, index])[0]
    of_factor = eqn.replace(params={**eqn.params, "slice_sizes": (1, matrix.a.shape[1])})
    change = matrix.step * jnp.matmul(core.bind(of_factor, [matrix.a, index])[0], matrix.b.T)
    return (base + change).astype(base.dtype)


_RULES: dict[str, Callable[[core.JaxprEqn, list[Any]], Any]] = {
    "convert_element_type": _cast,
    "copy": _copy,
    "copy_p": _copy,
    "dot_general": _product,
    "gather": _rows,
    "transpose": _transpose,
}
