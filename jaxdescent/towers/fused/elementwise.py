"""Splits an update into scalars and, for each leaf, an elementwise function.

Most optimizers update each coordinate independently. With scalars a, b, ... (learning rates, betas,
bias corrections, a global norm) that depend on the hyperparameters h,

    U_i = f(a(h), b(h), ...; g_i, m_i, v_i, x_i),      the same f for all i of a leaf.

Then dU_i/dh is computed for a block of coordinates at a time, without a buffer of derivatives. The
jaxpr of the update shows if the update has this form: every operation between the given arrays and
scalars and the leaf's update must be elementwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdescent import jax_internals as core
from jaxdescent.towers.replay import dataflow, safe_derivatives

# fmt: off
_ELEMENTWISE = frozenset((
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos",
    "cosh", "div", "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow",
    "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg",
    "nextafter", "not", "or", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n",
    "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "xor",
))
# fmt: on


class NotElementwiseError(ValueError):
    """Raised for an update that is not coordinate-wise."""


class Leaf(NamedTuple):
    """The update of one leaf.

    Attributes:
      program: an elementwise program of scalars and arrays that returns the update.
      scalars: indices of its scalars in `Elementwise.scalars`.
      arrays: indices of its arrays among the update's inputs.
    """

    program: core.Jaxpr
    scalars: tuple[int, ...]
    arrays: tuple[int, ...]

    @property
    def output(self) -> Any:
        """The shape and dtype of the update."""
        program: Any = self.program
        return program.outvars[0].aval

    @property
    def signature(self) -> tuple[Any, ...]:
        """A key that is equal for leaves whose updates differ in shapes and arrays only."""
        order: dict[Any, int] = {}

        def name(atom: Any) -> Any:
            return order.setdefault(atom, len(order)) if isinstance(atom, core.Var) else str(atom)

        def settings(eqn: Any) -> list[Any]:
            return sorted((k, str(x)) for k, x in eqn.params.items() if k != "shape")

        program: Any = self.program
        inputs = [(name(v), str(v.aval.dtype)) for v in program.invars]
        eqns = [
            (eqn.primitive.name, *map(name, eqn.invars), *map(name, eqn.outvars), *settings(eqn))
            for eqn in program.eqns
        ]
        return self.scalars, *inputs, *eqns, name(program.outvars[0])

    def update(self, scalars: Sequence[Any], blocks: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """Returns the update at some coordinates, from a block of each array, all of one shape."""
        resized = [
            eqn.replace(params={**eqn.params, "shape": shape})
            if eqn.primitive.name == "broadcast_in_dim"
            else eqn
            for eqn in self.program.eqns
        ]
        program = core.ClosedJaxpr(self.program.replace(eqns=resized), ())
        return safe_derivatives.evaluate(program, *scalars, *blocks, by_reciprocals=True)[0]


class Elementwise(NamedTuple):
    """An update, split into scalars and an elementwise program for each leaf.

    Attributes:
      program: computes all scalars that the leaves' programs read.
      given: indices of the program's arguments among the update's inputs.
      leaves: the elementwise program of each leaf.
      moved: for each input, the indices of the scalars that depend on it.
    """

    program: core.Jaxpr
    given: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    moved: tuple[frozenset[int], ...]

    def scalars(self, inputs: Sequence[Any]) -> list[Any]:
        """Returns the scalars, with safe derivatives."""
        closed = core.ClosedJaxpr(self.program, ())
        return safe_derivatives.evaluate(closed, *(inputs[i] for i in self.given))


def split(jaxpr: core.Jaxpr, updates: Sequence[Any], inputs: Sequence[Any]) -> Elementwise:
    """Splits an update.

    Args:
      jaxpr: the update, without inner calls.
      updates: the atoms of the jaxpr that are the leaves' updates.
      inputs: the variables whose values are given; other entries are ignored.

    Raises:
      NotElementwiseError: a leaf's update at one coordinate depends on more than scalars
        and the inputs there, or on an input that is not given.
    """
    place: dict[Any, int] = {}
    for i, v in enumerate(inputs):
        if isinstance(v, core.Var):
            place.setdefault(v, i)

    def stop(v: Any) -> bool:
        return v in place or v.aval.shape == ()

    parts = [dataflow.cut(jaxpr, [_unrounded(jaxpr, atom)], stop) for atom in updates]
    for part in parts:
        _check_elementwise(part)
    taken: list[Any] = [v for part in parts for v in part.invars]
    entering = list(dict.fromkeys(v for v in taken if not v.aval.shape))
    program = dataflow.cut(jaxpr, entering, lambda v: v in place)
    if any(v not in place for v in [*program.invars, *(v for v in taken if v.aval.shape)]):
        raise NotElementwiseError("an input that is not carried")
    if dataflow.holds(core.ClosedJaxpr(program, ()), "custom_vjp_call"):
        raise NotElementwiseError("a custom_vjp, which has no forward mode")
    order = {v: i for i, v in enumerate(entering)}
    return Elementwise(
        program,
        tuple(place[v] for v in program.invars),
        tuple(_leaf(part, order, place) for part in parts),
        tuple(_moved(program, v, order) for v in inputs),
    )


def _unrounded(jaxpr: Any, atom: Any) -> Any:
    """Returns the update before it is rounded to the dtype of narrow parameters."""
    for eqn in jaxpr.eqns:
        if atom in eqn.outvars and eqn.primitive.name == "convert_element_type":
            wide = eqn.invars[0]
            return wide if _is_real(wide) else atom
    return atom


def _moved(program: core.Jaxpr, source: Any, order: Mapping[Any, int]) -> frozenset[int]:
    if not isinstance(source, core.Var):
        return frozenset()
    found = dataflow.reached(program, source)
    return frozenset(i for v, i in order.items() if v in found and _is_real(v))


def _is_real(atom: Any) -> bool:
    """True if an atom holds real floating-point numbers."""
    return jnp.issubdtype(atom.aval.dtype, jnp.floating)


def _leaf(part: core.Jaxpr, order: Mapping[Any, int], place: Mapping[Any, int]) -> Leaf:
    scalars = [v for v in part.invars if v in order]
    arrays = [v for v in part.invars if v not in order]
    ordered = part.replace(invars=[*scalars, *arrays])
    return Leaf(ordered, tuple(order[v] for v in scalars), tuple(place[v] for v in arrays))


def _check_elementwise(part: Any) -> None:
    shape, dtype = part.outvars[0].aval.shape, part.outvars[0].aval.dtype
    if not _is_real(part.outvars[0]):
        raise NotElementwiseError(f"parameters of {dtype}")
    for eqn in part.eqns:
        name = eqn.primitive.name
        spreads_scalar = name == "broadcast_in_dim" and not eqn.invars[0].aval.shape
        shapes = {atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)} - {()}
        if not (name in _ELEMENTWISE or spreads_scalar) or shapes != {shape}:
            raise NotElementwiseError(f"{name}, which mixes coordinates")
        if any(jnp.issubdtype(atom.aval.dtype, jnp.complexfloating) for atom in eqn.invars):
            raise NotElementwiseError("complex numbers")
