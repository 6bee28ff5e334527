"""An update taken apart: a few numbers, and for every leaf a function of one coordinate.

Most optimizers move each coordinate on its own: with numbers a, b, ... (rates, betas, bias
corrections, a global norm) that come from the hyperparameters h and whatever else,

    U_i = f(a(h), b(h), ...; g_i, m_i, v_i, x_i),      the same f for all i of a leaf.

Then dU_i/dh can be had for a block of coordinates at a time, without ever storing a buffer
of them. Whether an update is of this kind is read off its jaxpr: walk back from the leaf's
update until arrays or single numbers are met that are given; on the way there must be
nothing but elementwise operations.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core

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
    """An update that does not move each coordinate on its own."""


class Leaf(NamedTuple):
    """The update of one leaf.

    Attributes:
      program: from numbers and arrays to the update, elementwise.
      numbers: which of `Elementwise.numbers` it is given.
      arrays: which of the update's inputs it is given.
    """

    program: core.Jaxpr
    numbers: tuple[int, ...]
    arrays: tuple[int, ...]

    @property
    def signature(self) -> tuple[Any, ...]:
        """Equal for leaves whose updates differ in nothing but their shapes and arrays."""
        order: dict[Any, int] = {}
        number = lambda atom: (
            order.setdefault(atom, len(order)) if isinstance(atom, core.Var) else str(atom)
        )
        told = lambda eqn: sorted((k, str(x)) for k, x in eqn.params.items() if k != "shape")
        program: Any = self.program
        inputs = [(number(v), str(v.aval.dtype)) for v in program.invars]
        eqns = [
            (eqn.primitive.name, *map(number, eqn.invars), *map(number, eqn.outvars), *told(eqn))
            for eqn in program.eqns
        ]
        return self.numbers, *inputs, *eqns, number(program.outvars[0])

    @property
    def dtype(self) -> Any:
        """The update's dtype."""
        update: Any = self.program.outvars[0].aval
        return update.dtype

    def update(self, numbers: Sequence[Any], blocks: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """The update at some coordinates, from a block of each array, all of one shape."""
        resized = [
            eqn.replace(params={**eqn.params, "shape": shape})
            if eqn.primitive.name == "broadcast_in_dim"
            else eqn
            for eqn in self.program.eqns
        ]
        program = core.ClosedJaxpr(self.program.replace(eqns=resized), ())
        return safe_derivatives.evaluate(program, *numbers, *blocks, by_reciprocals=True)[0]


class Elementwise(NamedTuple):
    """An update in two parts.

    Attributes:
      program: from the inputs `given` to all the numbers that enter the leaves' programs.
      given: which of the update's inputs the program takes.
      leaves: for each leaf what is done with the numbers.
      moved: for each input, which numbers depend on it.
    """

    program: core.Jaxpr
    given: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    moved: tuple[frozenset[int], ...]

    def numbers(self, inputs: Sequence[Any]) -> list[Any]:
        """The numbers, with safe derivatives."""
        closed = core.ClosedJaxpr(self.program, ())
        return safe_derivatives.evaluate(closed, *(inputs[i] for i in self.given))


def split(jaxpr: core.Jaxpr, updates: Sequence[Any], inputs: Sequence[Any]) -> Elementwise:
    """Takes an update apart.

    Args:
      jaxpr: the update, without inner calls.
      updates: the atoms of the jaxpr that are the leaves' updates.
      inputs: the variables whose values are given.

    Raises:
      NotElementwiseError: a leaf's update at one coordinate depends on more than numbers
        and the inputs there, or on something that is not given.
    """
    place: dict[Any, int] = {}
    for i, v in enumerate(inputs):
        if isinstance(v, core.Var):
            place.setdefault(v, i)
    stop = lambda v: v in place or v.aval.shape == ()
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
    """The update before it is rounded to the dtype of narrow parameters."""
    for eqn in jaxpr.eqns:
        if atom in eqn.outvars and eqn.primitive.name == "convert_element_type":
            wide = eqn.invars[0]
            return wide if is_real(wide) else atom
    return atom


def _moved(program: core.Jaxpr, source: Any, order: Mapping[Any, int]) -> frozenset[int]:
    if not isinstance(source, core.Var):
        return frozenset()
    found = dataflow.reached(program, source)
    return frozenset(i for v, i in order.items() if v in found and is_real(v))


def is_real(atom: Any) -> bool:
    """Whether an atom holds real numbers."""
    return jnp.issubdtype(atom.aval.dtype, jnp.floating)


def _leaf(part: core.Jaxpr, order: Mapping[Any, int], place: Mapping[Any, int]) -> Leaf:
    numbers = [v for v in part.invars if v in order]
    arrays = [v for v in part.invars if v not in order]
    ordered = part.replace(invars=[*numbers, *arrays])
    return Leaf(ordered, tuple(order[v] for v in numbers), tuple(place[v] for v in arrays))


def _check_elementwise(part: Any) -> None:
    shape, dtype = part.outvars[0].aval.shape, part.outvars[0].aval.dtype
    if not is_real(part.outvars[0]):
        raise NotElementwiseError(f"parameters of {dtype}")
    for eqn in part.eqns:
        name = eqn.primitive.name
        of_a_number = name == "broadcast_in_dim" and not eqn.invars[0].aval.shape
        shapes = {atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)} - {()}
        if not (name in _ELEMENTWISE or of_a_number) or shapes != {shape}:
            raise NotElementwiseError(f"{name}, which mixes coordinates")
        if any(jnp.issubdtype(atom.aval.dtype, jnp.complexfloating) for atom in eqn.invars):
            raise NotElementwiseError("complex numbers")
