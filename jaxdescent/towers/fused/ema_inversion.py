"""Inverts a moving average: computes its value before an update from its value after it.

An exponential moving average is affine in its last value, with one scalar as slope:

    s_t = a s_{t-1} + b_t(g_{t-1})      so      s_{t-1} = (s_t - b_t) / a.

ds_t/da needs s_{t-1}. Thanks to the inversion, a tower that tunes a beta stores only the state
after the update, which the inner optimizer needs anyway, and not the state before it.

The inversion divides the rounding error of s_t by a. The derivatives by log a and logit a
multiply s_{t-1} by a again, so that the error stays at the level of rounding. The derivative by
a itself does not; `decomposition` rejects that case. Where a is below the dtype's resolution,
s_{t-1} counts as zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent.towers.fused.elementwise import Leaf, NotElementwiseError


class Inversion(NamedTuple):
    """The inversion of one leaf of the state.

    Attributes:
      leaf: the leaf's update, in which the leaf itself is the first array.
      before: index of the leaf before the update among the update's inputs.
      after: index of the leaf after the update among the update's inputs.
      factors: indices of the scalars whose product is the slope a.
    """

    leaf: Leaf
    before: int
    after: int
    factors: tuple[int, ...]

    def inverse_slope(self, scalars: Sequence[jax.Array]) -> jax.Array:
        """Returns 1 / a."""
        zero = jnp.zeros((), self.leaf.dtype)
        given = [scalars[i] for i in self.leaf.scalars]
        others = [zero] * (len(self.leaf.arrays) - 1)

        def next_value(s: jax.Array) -> jax.Array:
            return self.leaf.update(given, [s, *others], ())

        _, slope = jax.jvp(next_value, (zero,), (jnp.ones_like(zero),))
        lost = jnp.abs(slope) < jnp.finfo(slope.dtype).eps
        return jnp.where(lost, 0, 1 / slope)

    def value_before(
        self, scalars: Sequence[jax.Array], inverse_slope: Any, arrays: Mapping[int, Any]
    ) -> jax.Array:
        """Returns the leaf before the update at some coordinates, from its other arrays there."""
        after = arrays[self.after]
        others = [arrays[i] for i in self.leaf.arrays[1:]]
        added = self.leaf.update(
            [scalars[i] for i in self.leaf.scalars],
            [jnp.zeros_like(after), *others],
            after.shape,
        )
        return (after - added) * inverse_slope


def invert(leaf: Leaf, before: int, after: int) -> Inversion:
    """Returns the inversion of a leaf of the state.

    Args:
      leaf: the leaf's update.
      before: index of the leaf before the update among the update's inputs.
      after: index of the leaf after the update among the update's inputs.

    Raises:
      NotElementwiseError: the update is not affine in the leaf, with a product of scalars as
        slope.
    """
    if before not in leaf.arrays:
        raise NotElementwiseError("a state that does not depend on its last value")
    count = len(leaf.scalars)
    own = leaf.arrays.index(before)
    scalars, arrays = leaf.program.invars[:count], list(leaf.program.invars[count:])
    factors = _factors(leaf.program, arrays[own])
    arrays.insert(0, arrays.pop(own))
    places = (before, *(i for i in leaf.arrays if i != before))
    program = leaf.program.replace(invars=[*scalars, *arrays])
    index = dict(zip(scalars, leaf.scalars, strict=True))
    if any(v not in index for v in factors):
        raise NotElementwiseError("a moving average whose decay is computed elementwise")
    found = tuple(index[v] for v in factors)
    return Inversion(leaf._replace(program=program, arrays=places), before, after, found)


def _factors(program: Any, source: core.Var) -> list[core.Var]:
    """Returns the scalars whose product is the slope of a program in `source`.

    Raises:
      NotElementwiseError: the slope is not a product of scalars.
    """
    reached, factors = {source}, []
    for eqn in program.eqns:
        moving = [atom for atom in eqn.invars if isinstance(atom, core.Var) and atom in reached]
        if not moving:
            continue
        name = eqn.primitive.name
        rest = [atom for atom in eqn.invars if atom not in moving]
        scales = len(moving) == 1 and all(not atom.aval.shape for atom in rest)
        affine = (
            (name in ("add", "sub", "neg") and len(moving) == 1)
            or (name == "mul" and scales)
            or (name == "div" and scales and eqn.invars[0] is moving[0])
            or (name == "integer_pow" and eqn.params["y"] == 1)
        )
        if not affine:
            raise NotElementwiseError(f"{name} of a state")
        if name in ("mul", "div"):
            factors += [atom for atom in rest if isinstance(atom, core.Var)]
        reached.update(eqn.outvars)
    if program.outvars[0] not in reached:
        raise NotElementwiseError("a state that does not depend on its last value")
    return factors
